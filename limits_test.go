package caddywebsocket

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// Sockets, and handshakes that are refused, leave nothing behind, and an open
// socket has no goroutine but its handler's.
func TestNothingLeaks(t *testing.T) {
	const n = 100
	s := start(t, "websocket {\nsubprotocols a\n}")
	s.dial(t, "http1", "/").bye()
	settled := func(want int) int {
		var got int
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); runtime.Gosched() {
			if got = runtime.NumGoroutine(); got <= want {
				break
			}
		}
		return got
	}
	before := runtime.NumGoroutine()
	var open []*peer
	for range n {
		p := s.dial(t, "http1", "/")
		p.echo(ws.OpText, "hello")
		open = append(open, p)
	}
	if got := settled(before + n); got > before+n {
		t.Errorf("%d goroutines for %d sockets", got-before, n)
	}
	for i, p := range open {
		switch i % 3 {
		case 0:
			p.bye()
		case 1:
			p.write([]byte{0xff})
			p.expectClose(1002, "")
			p.rw.Close()
		case 2:
			p.rw.Close()
		}
	}
	for range n {
		p := s.attempt(t, "http1", "/", "Sec-WebSocket-Key", "-")
		p.rw.Close()
	}
	if got := settled(before); got > before {
		t.Errorf("%d goroutines are left", got-before)
	}
	sessions.mu.Lock()
	defer sessions.mu.Unlock()
	if len(sessions.byID) > 0 {
		t.Errorf("%d sessions are left", len(sessions.byID))
	}
}

// Listener wrappers and some protocol settings hide the methods of a socket.
func TestWrappedConnection(t *testing.T) {
	s := startGlobal(t, "servers {\nprotocols h1\n}", "websocket")
	for _, protocol := range []string{"http1", "tls"} {
		for range 20 {
			p := s.dial(t, protocol, "/")
			p.echo(ws.OpText, "hello")
			p.write([]byte{0xff}, make([]byte, 200_000))
			p.expectClose(1002, "")
			if c, ok := p.rw.(interface{ CloseWrite() error }); ok {
				c.CloseWrite()
			}
			p.expectEnd()
		}
		s.dial(t, protocol, "/").bye()
	}
}

// Caddy's idle timeouts don't apply to sockets, on any protocol.
func TestIdleTimeouts(t *testing.T) {
	const global = "servers {\ntimeouts {\nread_body_idle 50ms\nwrite_idle 50ms\n}\n}"
	for _, global := range []string{global, strings.ReplaceAll(global, "50ms", "-1s")} {
		s := startGlobal(t, global, "websocket {\nkeepalive 500ms\n}")
		for _, protocol := range protocols {
			p := s.dial(t, protocol, "/")
			p.expectPing() // half a second later
			p.send(ws.OpPong, "")
			p.echo(ws.OpText, "still there")
			p.bye()
		}
	}
}

func TestMaxConnections(t *testing.T) {
	s := start(t, "websocket /total {\nmax_connections 2\n}\nwebsocket /client {\nmax_connections 10 1\n}")
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			for path, limit := range map[string]int{"/total": 2, "/client": 1} {
				var open []*peer
				for range limit {
					open = append(open, s.dial(t, protocol, path))
				}
				p := s.attempt(t, protocol, path)
				if p.res.StatusCode != 503 || p.res.Header.Get("Retry-After") == "" {
					t.Errorf("%s: status %d, Retry-After %q, want 503 and some", path, p.res.StatusCode, p.res.Header.Get("Retry-After"))
				}
				closed := len(s.logs.entries("socket closed"))
				for _, p := range open {
					p.echo(ws.OpText, "not disturbed")
					p.bye()
				}
				s.logs.await(t, "socket closed", closed+limit)
			}
		})
	}
}

// A limit on request bodies in front takes an HTTP/2 or HTTP/3 socket for one.
func TestRequestBodyLimit(t *testing.T) {
	s := start(t, "request_body {\nmax_size 1KB\n}\nwebsocket")
	for _, protocol := range protocols {
		p := s.dial(t, protocol, "/")
		p.echo(ws.OpText, letters(500))
		p.send(ws.OpText, letters(800))
		if protocol == "http1" || protocol == "tls" {
			p.expect(ws.OpText, letters(800))
			p.bye()
		} else {
			p.expectClose(1009, "request_body max_size")
			p.expectEnd()
		}
	}
}
