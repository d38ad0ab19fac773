package stream

import (
	"io"
	"maps"
	"net"
	"net/http"
	"reflect"
	"sync"
	"time"
	"weak"

	"github.com/quic-go/quic-go/http3"
)

// Carriers are what carries streams, or has carried some, and may hold up an exit: an
// HTTP/3 server waits for its clients to close their connections, also after a reload, and
// an HTTP/2 server for a connection whose client doesn't read. The zero Carriers is ready
// for use.
type Carriers struct {
	mu    sync.Mutex        // guards the following
	conns map[net.Conn]bool // those that are open; true if one has carried a stream
	// servers are weak: Caddy holds the servers that it waits for, and nobody says when
	// it has let go of one.
	servers map[weak.Pointer[http3.Server]]struct{}
}

// Add notes what carries a stream, until its connection closes or its server is let go.
func (c *Carriers) Add(s Stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch carrier := s.Carrier().(type) {
	case *http3.Server:
		c.addServerLocked(weak.Make(carrier))
	case net.Conn:
		if !reflect.ValueOf(carrier).Comparable() { // a listener wrapper's may not be
			return
		}
		if _, open := c.conns[carrier]; open { // it may have closed while its stream began
			c.conns[carrier] = true
		}
	}
}

func (c *Carriers) addServerLocked(srv weak.Pointer[http3.Server]) {
	if _, known := c.servers[srv]; known {
		return
	}
	c.dropServersLocked()
	if c.servers == nil {
		c.servers = make(map[weak.Pointer[http3.Server]]struct{})
	}
	c.servers[srv] = struct{}{}
}

func (c *Carriers) dropServersLocked() {
	maps.DeleteFunc(c.servers, func(srv weak.Pointer[http3.Server], _ struct{}) bool { return srv.Value() == nil })
}

// HasServers reports whether there is an HTTP/3 server that has carried a stream.
func (c *Carriers) HasServers() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropServersLocked()
	return len(c.servers) > 0
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
	for server := range c.servers {
		if srv := server.Value(); srv != nil {
			all = append(all, srv)
		}
	}
	return all
}
