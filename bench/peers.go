package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

// A peer is a server that is measured.
type peer struct {
	name string
	base string // the name of the server that it is compared with
	over []transport
	raw  bool // it isn't a WebSocket server
	// program is what has to be installed; empty if it is built here.
	program string
	// start starts the server in a process of its own.
	start func(tls bool) (*process, error)
}

const (
	rawEcho      = "raw echo"
	reverseProxy = "Caddy: `reverse_proxy`"
)

// A build holds what is needed to start the servers.
type build struct {
	dir      string
	cpus     cpuPair
	cert     certificate
	upstream *process
}

// newBuild builds the Caddy binaries and creates a certificate, all in dir.
func newBuild(dir string) (*build, error) {
	b := &build{dir: dir}
	for name, source := range map[string][2]string{
		"caddy":    {"..", "./cmd/caddy"},
		"textbook": {".", "./textbook"},
	} {
		err := run(exec.Command("go", "build", "-C", source[0], "-o", filepath.Join(dir, name), source[1]))
		if err != nil {
			return nil, err
		}
	}
	var err error
	b.cert, err = newCertificate(dir)
	return b, err
}

// peers returns the servers whose names match, and starts the upstream of the proxies.
func (b *build) peers(names *regexp.Regexp) ([]peer, error) {
	// It runs on another CPU than the servers, so as not to slow them down.
	upstream, err := start(serveCommand("gorilla-tuned"), b.cpus.client)
	if err != nil {
		return nil, err
	}
	b.upstream = upstream
	over1, overAll := []transport{overTCP, overTLS}, []transport{overTCP, overTLS, overHTTP2, overHTTP3}
	all := []peer{
		{name: rawEcho, start: b.own("raw"), over: overAll, raw: true},
		{name: "gorilla, textbook", start: b.own("gorilla"), over: over1},
		{name: "gorilla, tuned", start: b.own("gorilla-tuned"), over: over1},
		{name: "coder/websocket", start: b.own("coder")},
		{name: "lxzan/gws", start: b.own("gws")},
		{name: "gobwas/ws", start: b.own("gobwas")},
		{name: "Node's ws", start: b.node, program: "node"},
		{name: "Caddy: textbook gorilla", start: b.caddy("textbook", `{"handler": "textbook"}`), over: over1},
		{name: "Caddy: `websocket echo`", start: b.caddy("caddy", `{"handler": "websocket"}`), over: overAll},
		{name: reverseProxy, base: reverseProxy, start: b.caddy("caddy", b.proxy()), over: overAll},
		{
			name: "Caddy: `websocket passthrough`", base: reverseProxy, over: overAll,
			start: b.caddy("caddy", `{"handler": "websocket", "mode": "passthrough", "allowed_origins": ["*"]}`, b.proxy()),
		},
		{name: "nginx", base: reverseProxy, over: over1, start: b.nginx(""), program: "nginx"},
		{name: "nginx, tuned", base: reverseProxy, over: over1, start: b.nginx(nginxTuned), program: "nginx"},
		{name: "HAProxy", base: reverseProxy, over: overAll[:3], start: b.haproxy(""), program: "haproxy"},
		{name: "HAProxy, tuned", base: reverseProxy, over: overAll[:3], start: b.haproxy(haproxyTuned), program: "haproxy"},
	}
	var chosen []peer
	for _, p := range all {
		if p.base == "" {
			p.base = rawEcho
		}
		if p.over == nil {
			p.over = []transport{overTCP}
		}
		if !names.MatchString(p.name) {
			continue
		}
		if !installed(p.program) {
			fmt.Fprintf(os.Stderr, "%s is not installed: leaving out %s.\n", p.program, p.name)
			continue
		}
		chosen = append(chosen, p)
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no server's name matches %s", names)
	}
	return chosen, nil
}

// installed reports whether a program can be run, and makes sure that Node has what it needs.
func installed(program string) bool {
	if program == "" {
		return true
	}
	_, err := exec.LookPath(program)
	return err == nil && (program != "node" || installWS())
}
