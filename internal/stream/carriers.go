package stream

import (
	"io"
	"maps"
	"net"
	"net/http"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/quic-go/quic-go/http3"
)

// Carriers are what carries streams, or has carried some, and may hold up an exit: an
// HTTP/3 server waits for its clients to close their connections, also after a reload, and
// an HTTP/2 server for a connection whose client doesn't read. An HTTP/2 server also waits
// for an idle connection if its TLS handshake was under way when the server began to shut
// down, since Go tells such a connection nothing. The zero Carriers is ready for use.
type Carriers struct {
	conns sync.Map   // those that are open, a *connection by a net.Conn
	mu    sync.Mutex // guards the following
	// servers are weak: Caddy holds the servers that it waits for, and nobody says when
	// it has let go of one.
	servers map[weak.Pointer[http3.Server]]struct{}
}

// Add notes what carries a stream, until its connection closes or its server is let go.
func (c *Carriers) Add(s Stream) {
	switch carrier := s.Carrier().(type) {
	case *http3.Server:
		c.addServer(weak.Make(carrier))
	case net.Conn:
		if conn := c.connection(carrier); conn != nil { // it may have closed while its stream began
			conn.carried.Store(true)
		}
	}
}

// A connection is what is known about an open one.
type connection struct {
	carried atomic.Bool // it carries a stream, or has carried one
	idle    atomic.Bool // it has no request
}

// connection returns what is known about an open connection, nil for nothing.
func (c *Carriers) connection(conn net.Conn) *connection {
	if !reflect.ValueOf(conn).Comparable() { // a listener wrapper's may not be
		return nil
	}
	known, ok := c.conns.Load(conn)
	if !ok {
		return nil
	}
	return known.(*connection)
}

func (c *Carriers) addServer(srv weak.Pointer[http3.Server]) {
	c.mu.Lock()
	defer c.mu.Unlock()
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
	switch state {
	case http.StateNew:
		if reflect.ValueOf(conn).Comparable() {
			c.conns.Store(conn, new(connection))
		}
	case http.StateActive, http.StateIdle:
		if known := c.connection(conn); known != nil {
			known.idle.Store(state == http.StateIdle)
		}
	default:
		if c.connection(conn) != nil {
			c.conns.Delete(conn)
		}
	}
}

// CloseAfter closes after d what is still there then, and what is idle, for an exit.
func (c *Carriers) CloseAfter(d time.Duration) {
	time.AfterFunc(d, func() {
		for _, carrier := range c.all() {
			_ = carrier.Close()
		}
	})
}

func (c *Carriers) all() []io.Closer {
	var all []io.Closer
	c.conns.Range(func(conn, known any) bool {
		if known := known.(*connection); known.carried.Load() || known.idle.Load() {
			all = append(all, conn.(net.Conn))
		}
		return true
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	for server := range c.servers {
		if srv := server.Value(); srv != nil {
			all = append(all, srv)
		}
	}
	return all
}
