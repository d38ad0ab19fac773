package e2e

import (
	"runtime"
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
	if left := wstest.Sessions(t, ""); len(left) > 0 {
		t.Errorf("%d sessions are left", len(left))
	}
}
