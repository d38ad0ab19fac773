package stream

import (
	"io"
	"net"
	"net/http"
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
		c.Add(carriedBy{carrier: conn}, "owner")
	}
	c.ConnState(closedAfter, http.StateClosed)
	c.ConnState(hijacked, http.StateHijacked)
	server := new(http3.Server)
	c.Add(carriedBy{carrier: server}, "owner")
	c.Add(carriedBy{carrier: server}, "forgotten")
	c.Forget("forgotten")
	c.Add(carriedBy{}, "none") // on HTTP/1.1
	if got, want := c.all(), []io.Closer{carrying, server}; !slices.Equal(got, want) {
		t.Errorf("carriers %v, want %v", got, want)
	}
	if len(c.conns) != 1 || len(c.servers) != 1 {
		t.Errorf("%d connections and %d servers are held, want one of each", len(c.conns), len(c.servers))
	}
}
