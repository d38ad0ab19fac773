package stream

import (
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"testing"

	"github.com/quic-go/quic-go/http3"
)

// carriedBy is a stream that something carries.
type carriedBy struct {
	Stream
	carrier io.Closer
}

func (s carriedBy) Carrier() io.Closer { return s.carrier }

func TestCarriers(t *testing.T) {
	var c Carriers
	conns := make([]net.Conn, 4)
	for i := range conns {
		conn, _ := net.Pipe()
		c.ConnState(conn, http.StateNew)
		conns[i] = conn
	}
	carrying, closedBefore, closedAfter, hijacked := conns[0], conns[1], conns[2], conns[3]
	c.ConnState(closedBefore, http.StateClosed)
	for _, conn := range []net.Conn{carrying, closedBefore, closedAfter} {
		c.ConnState(conn, http.StateActive)
		c.Add(carriedBy{carrier: conn})
	}
	c.ConnState(closedAfter, http.StateClosed)
	c.ConnState(hijacked, http.StateHijacked)
	server := new(http3.Server)
	c.Add(carriedBy{carrier: server})
	c.Add(carriedBy{}) // on HTTP/1.1
	if got, want := c.all(), []io.Closer{carrying, server}; !slices.Equal(got, want) {
		t.Errorf("carriers %v, want %v", got, want)
	}
	if len(c.conns) != 1 || !c.HasServers() {
		t.Errorf("%d connections are held, want one; a server: %t", len(c.conns), c.HasServers())
	}
	runtime.KeepAlive(server)
}

// A server that its owner has let go is not held.
func TestCarriersServerLetGo(t *testing.T) {
	var c Carriers
	c.Add(carriedBy{carrier: new(http3.Server)})
	runtime.GC()
	if c.HasServers() {
		t.Error("a server is held that nobody else holds")
	}
}
