package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// nginxConfig is the format of a config of nginx, with one process. Its arguments are the
// directory for its files, the directives of the server, and those of the location.
const nginxConfig = `
daemon off;
master_process off;
pid nginx.pid;
error_log stderr error;
events {
	worker_connections 8192;
}
http {
	access_log off;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	server {
		%s
		location / {
			proxy_pass http://%s;
			proxy_http_version 1.1;
			proxy_set_header Host $http_host;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection upgrade;
			proxy_read_timeout 1h;
		}
	}
}
`

// nginxTuned are directives for long messages: the buffers of both directions of a socket
// hold 64 KiB instead of 4 KiB and 1 KiB.
const nginxTuned = `
		proxy_buffer_size 64k;
		proxy_buffers 4 64k;
		client_header_buffer_size 64k;`

// nginx returns a function that starts nginx as a proxy, with more directives.
func (b *build) nginx(directives string) func(bool) (*process, error) {
	return func(secure bool) (*process, error) {
		addr, err := freeAddr()
		if err != nil {
			return nil, err
		}
		server := "listen " + addr
		if secure {
			server += " ssl;\nssl_certificate " + b.cert.file + ";\nssl_certificate_key " + b.cert.key
		}
		config := fmt.Sprintf(nginxConfig, server+";"+directives, b.upstream.addr)
		dir, file, err := b.writeConfig("nginx", config)
		if err != nil {
			return nil, err
		}
		return startListening(exec.Command("nginx", "-p", dir, "-e", "stderr", "-c", file), b.cpus.server, addr)
	}
}

// haproxyConfig is the format of a config of HAProxy, with one thread. Its arguments are more
// of its global section, what it binds to, and the upstream.
const haproxyConfig = `
global
	nbthread 1
	maxconn 5000
	%s
defaults
	mode http
	timeout connect 10s
	timeout client 1h
	timeout server 1h
	timeout tunnel 1h
frontend clients
	bind %s
	default_backend application
backend application
	server application %s
`

// haproxyTuned is for long messages: a buffer holds 64 KiB instead of 16 KiB.
const haproxyTuned = "tune.bufsize 65536"

// haproxy returns a function that starts HAProxy, with more in its global section.
func (b *build) haproxy(global string) func(bool) (*process, error) {
	return func(secure bool) (*process, error) {
		addr, err := freeAddr()
		if err != nil {
			return nil, err
		}
		bind := addr
		if secure {
			bind += " alpn h2,http/1.1 ssl crt " + b.cert.both
		}
		_, file, err := b.writeConfig("haproxy", fmt.Sprintf(haproxyConfig, global, bind, b.upstream.addr))
		if err != nil {
			return nil, err
		}
		return startListening(exec.Command("haproxy", "-q", "-db", "-f", file), b.cpus.server, addr)
	}
}

// writeConfig writes a config to a file in a directory of its own.
func (b *build) writeConfig(name, config string) (dir, file string, err error) {
	if dir, err = os.MkdirTemp(b.dir, name); err != nil {
		return "", "", err
	}
	file = filepath.Join(dir, name+".conf")
	return dir, file, os.WriteFile(file, []byte(config), 0o600)
}

// freeAddr returns an address on which nobody listens, for servers that can't choose one.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// startListening starts a server on a CPU and waits until it listens on addr.
func startListening(cmd *exec.Cmd, cpu int, addr string) (*process, error) {
	if err := pinCommand(cmd, cpu); err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, addr: addr}
	var err error
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		var conn net.Conn
		if conn, err = net.Dial("tcp", addr); err == nil {
			return p, conn.Close()
		}
	}
	p.stop()
	return nil, errors.Join(fmt.Errorf("%v did not start", cmd.Args), err)
}
