//go:build !unix

package caddywebsocket

import "net"

// waitReadable is for systems that can look at a socket without reading it.
func waitReadable(net.Conn) (waited bool, err error) { return false, nil }
