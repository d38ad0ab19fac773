package caddywebsocket

import (
	"bufio"
	"net"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/seed-21dbdb71/caddy-websocket/internal/stream"
	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"go.uber.org/zap"
)

// pipe opens a socket of handler h over a net.Pipe. In a synctest bubble, where
// it is meant to be used, time passes when all are waiting, and the test fails
// if a goroutine is left in the end.
func pipe(t *testing.T, h *Handler) *peer {
	t.Helper()
	server, client := net.Pipe()
	return pipeOver(t, h, server, client)
}

// pipeOver is pipe with the two ends given.
func pipeOver(t *testing.T, h *Handler, server, client net.Conn) *peer {
	t.Helper()
	provision(t, h)
	return pipeSession(t, newSession(h, httptest.NewRequest("GET", "/", nil)), server, client)
}

// provision does for h what loading a config does.
func provision(t *testing.T, h *Handler) {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	if err := h.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.Validate(); err != nil {
		t.Fatal(err)
	}
	h.logger = zap.NewNop()
}

// pipeSession has s echo over the ends of a pipe.
func pipeSession(t *testing.T, s *session, server, client net.Conn) *peer {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer s.finish()
		s.beginEcho(&accepted{
			stream:  stream.NewConn(server, server, nil, time.Duration(s.handler.WriteTimeout)),
			deflate: s.handler.Compression == "on",
		}).serve()
	}()
	t.Cleanup(func() {
		client.Close()
		<-done
	})
	return &peer{
		t: t, name: "pipe", rw: client, br: bufio.NewReader(client),
		deadline: func(time.Time) error { return nil },
	}
}

// bubble runs f in a synctest bubble, and what it leaves for Cleanup, too.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// expectPingAt makes sure that the next frame is a Ping and comes after d.
func (p *peer) expectPingAt(d time.Duration) {
	p.t.Helper()
	start := time.Now()
	p.expectPing()
	if waited := time.Since(start); waited != d {
		p.t.Fatalf("a ping came after %v, want %v", waited, d)
	}
}

// nextIsPing waits for a frame and tells whether it is a Ping.
func (p *peer) nextIsPing() bool {
	p.t.Helper()
	first, err := p.br.Peek(1)
	if err != nil {
		p.t.Fatal(err)
	}
	return first[0] == ws.FinBit|byte(ws.OpPing)
}

// expectSilence makes sure that nothing comes for d.
func (p *peer) expectSilence(d time.Duration) {
	p.t.Helper()
	conn := p.rw.(net.Conn)
	conn.SetReadDeadline(time.Now().Add(d))
	if b, err := p.br.Peek(1); err == nil {
		p.t.Fatalf("got byte %#x, want silence", b)
	}
	conn.SetReadDeadline(time.Time{})
	p.br.Reset(conn)
}
