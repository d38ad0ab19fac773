//go:build !unix || aix

package stream

import "net"

// newReadWaiter returns nil: on this system a socket can't be peeked at.
func newReadWaiter(net.Conn) readWaiter { return nil }
