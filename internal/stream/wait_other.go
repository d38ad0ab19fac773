//go:build !unix || aix

package stream

import "net"

// newReadWaiter is for systems that can look at a socket without reading it.
func newReadWaiter(net.Conn) readWaiter { return nil }
