package caddywebsocket

import (
	"net"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/seed-21dbdb71/caddy-websocket/internal/stream"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// pipe opens a socket of handler h over a net.Pipe. In a synctest bubble, where
// it is meant to be used, time passes when all are waiting, and the test fails
// if a goroutine is left in the end.
func pipe(t *testing.T, h *Handler) *wstest.Peer {
	t.Helper()
	server, client := net.Pipe()
	return pipeOver(t, h, server, client)
}

// pipeOver is pipe with the two ends given.
func pipeOver(t *testing.T, h *Handler, server, client net.Conn) *wstest.Peer {
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
func pipeSession(t *testing.T, s *session, server, client net.Conn) *wstest.Peer {
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
	return wstest.NewPeer(t, "pipe", client)
}

// bubble runs f in a synctest bubble, and what it leaves for Cleanup, too.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}
