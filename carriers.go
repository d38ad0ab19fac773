package caddywebsocket

import (
	"io"
	"net"
	"net/http"
	"reflect"
	"sync"
	"time"

	"github.com/quic-go/quic-go/http3"
)

// carried are what has carried sockets of the loaded config, now or before, and
// may hold up an exit: an HTTP/3 server waits for its clients to close their
// connections, and an HTTP/2 server for a connection whose client doesn't read.
var carried = carriers{
	conns:   make(map[net.Conn]struct{}),
	servers: make(map[*Handler]*http3.Server),
}

type carriers struct {
	mu      sync.Mutex // guards the following
	conns   map[net.Conn]struct{}
	servers map[*Handler]*http3.Server
}

// add notes what carries a session.
func (c *carriers) add(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch carrier := s.stream.Carrier().(type) {
	case *http3.Server:
		c.servers[s.handler] = carrier
	case net.Conn:
		if reflect.ValueOf(carrier).Comparable() { // a listener wrapper's may not be
			c.conns[carrier] = struct{}{}
		}
	}
}

// forget lets go of a handler whose config was replaced: an exit doesn't wait for
// its server.
func (c *carriers) forget(h *Handler) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.servers, h)
}

// connState lets go of connections that have closed.
func (c *carriers) connState(conn net.Conn, state http.ConnState) {
	if state != http.StateClosed || !reflect.ValueOf(conn).Comparable() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.conns, conn)
}

// closeAfter closes after d what is still there then.
func (c *carriers) closeAfter(d time.Duration) {
	time.AfterFunc(d, func() {
		for _, carrier := range c.all() {
			_ = carrier.Close()
		}
	})
}

func (c *carriers) all() []io.Closer {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]io.Closer, 0, len(c.conns)+len(c.servers))
	for conn := range c.conns {
		all = append(all, conn)
	}
	for _, srv := range c.servers {
		all = append(all, srv)
	}
	return all
}
