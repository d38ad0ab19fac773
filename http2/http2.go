// Package http2 turns on WebSockets over HTTP/2 (RFC 8441) in the program that
// imports it:
//
//	import _ "github.com/seed-21dbdb71/caddy-websocket/http2"
//
// Go's HTTP/2 server supports Extended CONNECT, but advertises it only with
// GODEBUG=http2xconnect=1, which net/http and golang.org/x/net/http2 read when
// they are initialized. This package sets it before they do: Go initializes
// packages in the order of their import paths, as far as their imports allow,
// so this package imports only os, and its path must sort before theirs.
//
// If the environment already has a value for it, such as http2xconnect=0, that
// value takes precedence.
// See https://go.dev/issue/71128.
//
// The setting holds for every server of the process, and Caddy's reverse_proxy
// takes some requests that it lets in for failures of an upstream. The websocket
// handler keeps those from all servers of a config that has one; with a config
// that has none, set http2xconnect=0.
package http2

import "os"

const setting = "http2xconnect="

func init() {
	if value := os.Getenv("GODEBUG"); value == "" {
		set(setting + "1")
	} else if !mentions(value) {
		set(value + "," + setting + "1")
	}
}

func set(value string) {
	if err := os.Setenv("GODEBUG", value); err != nil {
		panic(err)
	}
}

// mentions reports whether value contains the setting. It is not strings.Contains, since
// this package would then be initialized after strings.
func mentions(value string) bool {
	for i := 0; i+len(setting) <= len(value); i++ {
		if value[i:i+len(setting)] == setting {
			return true
		}
	}
	return false
}
