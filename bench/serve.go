package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"
)

// servers are the servers that this program itself provides. Each is written as the
// documentation of its library shows, unless its name says otherwise.
var servers = map[string]func(net.Listener, *tls.Config) error{
	"raw":           serveRaw,
	"gorilla":       overHTTP(gorillaTextbook),
	"gorilla-tuned": overHTTP(gorillaTuned),
	"coder":         overHTTP(coder),
	"gws":           overHTTP(gwsTextbook()),
	"gobwas":        overHTTP(gobwas),
}

// serve runs a server, with TLS if the files of a certificate and its key are given.
func serve(name string, certificate []string) error {
	f, ok := servers[name]
	if !ok {
		return fmt.Errorf("there is no server %q", name)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	if len(certificate) < 2 {
		return f(l, nil)
	}
	cert, err := tls.LoadX509KeyPair(certificate[0], certificate[1])
	if err != nil {
		return err
	}
	return f(l, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
}

// overHTTP serves HTTP/1.1.
func overHTTP(f http.HandlerFunc) func(net.Listener, *tls.Config) error {
	return func(l net.Listener, config *tls.Config) error {
		if config != nil {
			l = tls.NewListener(l, config)
		}
		srv := &http.Server{Handler: f, ReadHeaderTimeout: time.Minute} // the same as Caddy's default
		return srv.Serve(l)
	}
}
