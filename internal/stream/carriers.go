package stream

import (
	"io"
	"net"
	"net/http"
	"reflect"
	"sync"
	"time"

	"github.com/quic-go/quic-go/http3"
)

// Carriers are what carries streams, or has carried some, and may hold up an exit: an
// HTTP/3 server waits for its clients to close their connections, and an HTTP/2 server for
// a connection whose client doesn't read. The zero Carriers is ready for use.
type Carriers struct {
	mu      sync.Mutex            // guards the following
	conns   map[net.Conn]bool     // those that are open; true if one has carried a stream
	servers map[any]*http3.Server // by their owners
}

// Add notes what carries a stream, until its owner is forgotten or its connection closes.
func (c *Carriers) Add(s Stream, owner any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch carrier := s.Carrier().(type) {
	case *http3.Server:
		if c.servers == nil {
			c.servers = make(map[any]*http3.Server)
		}
		c.servers[owner] = carrier
	case net.Conn:
		if !reflect.ValueOf(carrier).Comparable() { // a listener wrapper's may not be
			return
		}
		if _, open := c.conns[carrier]; open { // it may have closed while its stream began
			c.conns[carrier] = true
		}
	}
}

// Forget lets go of the HTTP/3 server of an owner whose config was replaced: an exit
// doesn't wait for it.
func (c *Carriers) Forget(owner any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.servers, owner)
}

// ConnState notes connections that open, and lets go of those that have closed or are not
// the server's any more. It is a hook of http.Server.
func (c *Carriers) ConnState(conn net.Conn, state http.ConnState) {
	if state == http.StateActive || state == http.StateIdle || !reflect.ValueOf(conn).Comparable() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if state != http.StateNew {
		delete(c.conns, conn)
		return
	}
	if c.conns == nil {
		c.conns = make(map[net.Conn]bool)
	}
	c.conns[conn] = false
}

// CloseAfter closes after d what is still there then.
func (c *Carriers) CloseAfter(d time.Duration) {
	time.AfterFunc(d, func() {
		for _, carrier := range c.all() {
			_ = carrier.Close()
		}
	})
}

func (c *Carriers) all() []io.Closer {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]io.Closer, 0, len(c.conns)+len(c.servers))
	for conn, carried := range c.conns {
		if carried {
			all = append(all, conn)
		}
	}
	for _, srv := range c.servers {
		all = append(all, srv)
	}
	return all
}
