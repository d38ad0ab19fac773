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
	conns := make([]net.Conn, 6)
	for i := range conns {
		conn, _ := net.Pipe()
		c.ConnState(conn, http.StateNew)
		conns[i] = conn
	}
	carrying, closedBefore, closedAfter, hijacked, idle, busy := conns[0], conns[1], conns[2], conns[3], conns[4], conns[5]
	c.ConnState(closedBefore, http.StateClosed)
	for _, conn := range []net.Conn{carrying, closedBefore, closedAfter} {
		c.ConnState(conn, http.StateActive)
		c.Add(carriedBy{carrier: conn})
	}
	c.ConnState(closedAfter, http.StateClosed)
	c.ConnState(hijacked, http.StateHijacked)
	for _, conn := range []net.Conn{idle, busy} {
		c.ConnState(conn, http.StateActive)
		c.ConnState(conn, http.StateIdle)
	}
	c.ConnState(busy, http.StateActive)
	server := new(http3.Server)
	c.Add(carriedBy{carrier: server})
	c.Add(carriedBy{}) // on HTTP/1.1
	got := c.all()
	for _, want := range []io.Closer{carrying, idle, server} {
		if !slices.Contains(got, want) {
			t.Errorf("%v isn't among %v", want, got)
		}
	}
	if len(got) != 3 {
		t.Errorf("%d carriers, want 3", len(got))
	}
	open := 0
	c.conns.Range(func(_, _ any) bool { open++; return true })
	if open != 3 || !c.HasServers() {
		t.Errorf("%d connections are held, want 3; a server: %t", open, c.HasServers())
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
