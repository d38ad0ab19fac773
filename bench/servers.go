package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// own returns a function that starts one of the servers that this program provides.
func (b *build) own(name string) func(bool) (*process, error) {
	return func(tls bool) (*process, error) {
		cmd := serveCommand(name)
		if tls {
			cmd.Args = append(cmd.Args, b.cert.file, b.cert.key)
		}
		return start(cmd, b.cpus.server)
	}
}

func serveCommand(name string) *exec.Cmd {
	self, err := os.Executable()
	cmd := exec.Command(self, "serve", name)
	cmd.Err = err
	cmd.Env = append(os.Environ(), "GODEBUG=http2xconnect=1") // for Extended CONNECT on HTTP/2
	return cmd
}

// nodeModules is the directory of the npm package that depends on ws.
const nodeModules = "../testdata/node"

// installWS installs what nodeModules depends on, and reports whether it is there.
func installWS() bool {
	if _, err := os.Stat(filepath.Join(nodeModules, "node_modules/ws")); err == nil {
		return true
	}
	return run(exec.Command("npm", "ci", "--prefix", nodeModules, "--no-audit", "--no-fund", "--silent")) == nil
}

// node starts a server that uses Node's ws.
func (b *build) node(bool) (*process, error) {
	path, err := filepath.Abs(filepath.Join(nodeModules, "node_modules"))
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("node", "ws.js")
	cmd.Env = append(os.Environ(), "NODE_PATH="+path)
	return start(cmd, b.cpus.server)
}

// proxy returns the config of a handler that proxies to the upstream.
func (b *build) proxy() string {
	return fmt.Sprintf(`{"handler": "reverse_proxy", "upstreams": [{"dial": %q}]}`, b.upstream.addr)
}

// caddyConfig is the format of a Caddy config. Its arguments are TLS connection policies,
// handlers, certificate and key.
const caddyConfig = `{
	"admin": {"disabled": true, "config": {"persist": false}},
	"apps": {
		"http": {"servers": {"bench": {
			"listen": ["127.0.0.1:0"],
			"automatic_https": {"disable": true},
			"tls_connection_policies": %s,
			"routes": [{"handle": [%s]}]
		}}},
		"tls": {"certificates": {"load_files": [{"certificate": %q, "key": %q}]}}
	}
}`

// caddy returns a function that starts a Caddy binary with the given handlers.
func (b *build) caddy(binary string, handlers ...string) func(bool) (*process, error) {
	return func(tls bool) (*process, error) {
		policies := "null"
		if tls {
			policies = "[{}]"
		}
		cmd := exec.Command(filepath.Join(b.dir, binary), "run", "--config", "-")
		cmd.Stdin = strings.NewReader(fmt.Sprintf(caddyConfig, policies, strings.Join(handlers, ", "), b.cert.file, b.cert.key))
		cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+b.dir, "XDG_CONFIG_HOME="+b.dir)
		return start(cmd, b.cpus.server)
	}
}
