package caddywebsocket

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// Sockets, and handshakes that are refused, leave nothing behind, and an open
// socket has no goroutine but its handler's.
func TestNothingLeaks(t *testing.T) {
	const n = 100
	s := wstest.Start(t, "websocket {\nsubprotocols a\n}")
	s.Dial(t, "http1", "/").CloseNormally()
	settled := func(want int) int {
		var got int
		for deadline := time.Now().Add(wstest.Timeout); time.Now().Before(deadline); runtime.Gosched() {
			if got = runtime.NumGoroutine(); got <= want {
				break
			}
		}
		return got
	}
	before := runtime.NumGoroutine()
	var open []*wstest.Peer
	for range n {
		p := s.Dial(t, "http1", "/")
		p.Echo(ws.OpText, "hello")
		open = append(open, p)
	}
	if got := settled(before + n); got > before+n {
		t.Errorf("%d goroutines for %d sockets", got-before, n)
	}
	for i, p := range open {
		switch i % 3 {
		case 0:
			p.CloseNormally()
		case 1:
			p.WriteRaw([]byte{0xff})
			p.ExpectClose(1002, "")
			p.Conn.Close()
		case 2:
			p.Conn.Close()
		}
	}
	for range n {
		p := s.TryDial(t, "http1", "/", "Sec-WebSocket-Key", "-")
		p.Conn.Close()
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
	s := wstest.StartGlobal(t, "servers {\nprotocols h1\n}", "websocket")
	for _, protocol := range []string{"http1", "tls"} {
		for range 20 {
			p := s.Dial(t, protocol, "/")
			p.Echo(ws.OpText, "hello")
			p.WriteRaw([]byte{0xff}, make([]byte, 200_000))
			p.ExpectClose(1002, "")
			if c, ok := p.Conn.(interface{ CloseWrite() error }); ok {
				c.CloseWrite()
			}
			p.ExpectEnd()
		}
		s.Dial(t, protocol, "/").CloseNormally()
	}
}

// Caddy's idle timeouts don't apply to sockets, on any protocol.
func TestIdleTimeouts(t *testing.T) {
	const global = "servers {\ntimeouts {\nread_body_idle 50ms\nwrite_idle 50ms\n}\n}"
	for _, global := range []string{global, strings.ReplaceAll(global, "50ms", "-1s")} {
		s := wstest.StartGlobal(t, global, "websocket {\nkeepalive 500ms\n}")
		for _, protocol := range wstest.Protocols {
			p := s.Dial(t, protocol, "/")
			p.ExpectPing() // half a second later
			p.Send(ws.OpPong, "")
			p.Echo(ws.OpText, "still there")
			p.CloseNormally()
		}
	}
}

func TestMaxConnections(t *testing.T) {
	s := wstest.Start(t, "websocket /total {\nmax_connections 2\n}\nwebsocket /client {\nmax_connections 10 1\n}")
	for _, protocol := range wstest.Protocols {
		t.Run(protocol, func(t *testing.T) {
			for path, limit := range map[string]int{"/total": 2, "/client": 1} {
				var open []*wstest.Peer
				for range limit {
					open = append(open, s.Dial(t, protocol, path))
				}
				p := s.TryDial(t, protocol, path)
				if p.Response.StatusCode != 503 || p.Response.Header.Get("Retry-After") == "" {
					t.Errorf("%s: status %d, Retry-After %q, want 503 and some", path, p.Response.StatusCode, p.Response.Header.Get("Retry-After"))
				}
				closed := len(s.Logs.Entries("socket closed"))
				for _, p := range open {
					p.Echo(ws.OpText, "not disturbed")
					p.CloseNormally()
				}
				s.Logs.Await(t, "socket closed", closed+limit)
			}
		})
	}
}

// A limit on request bodies in front takes an HTTP/2 or HTTP/3 socket for one.
func TestRequestBodyLimit(t *testing.T) {
	s := wstest.Start(t, "request_body {\nmax_size 1KB\n}\nwebsocket")
	for _, protocol := range wstest.Protocols {
		p := s.Dial(t, protocol, "/")
		p.Echo(ws.OpText, wstest.Letters(500))
		p.Send(ws.OpText, wstest.Letters(800))
		if protocol == "http1" || protocol == "tls" {
			p.Expect(ws.OpText, wstest.Letters(800))
			p.CloseNormally()
		} else {
			p.ExpectClose(1009, "request_body max_size")
			p.ExpectEnd()
		}
	}
}
