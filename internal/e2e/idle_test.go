//go:build linux && amd64 && !race

package e2e

import (
	"io"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// What a waiting socket takes of stack depends on the deepest call that its
// goroutine has ever made (see onOwnStack), and how deep that is on the system, the
// processor and the race detector.
func TestStackOfIdleSocket(t *testing.T) {
	upstream := wstest.EchoUpstream(t)
	const options = " {\nkeepalive 100ms 1m\nallowed_origins *\n}\n"
	for _, site := range []struct {
		name, config string
		most         int64 // bytes
	}{
		{"echo", "websocket" + options, 10 << 10},
		{"passthrough", "websocket passthrough" + options + "reverse_proxy " + upstream, 48 << 10},
	} {
		t.Run(site.name, func(t *testing.T) {
			p := wstest.StartProcess(t, "", site.config)
			pingedSockets(t, p, 20)
			before := stacks(t, p)
			const sockets = 200
			pingedSockets(t, p, sockets)
			if each := (stacks(t, p) - before) / sockets; each > site.most {
				t.Errorf("a socket takes %d bytes of stack, want %d at most", each, site.most)
			}
		})
	}
}

// stacks is what all stacks of the process take, in bytes, when collections have
// halved those that are large.
func stacks(t *testing.T, p *wstest.Process) int64 {
	t.Helper()
	p.MemStats(t)
	return int64(p.MemStats(t).StackInuse)
}

// pingedSockets opens n sockets that have had a message each and have answered a
// Ping.
func pingedSockets(t *testing.T, p *wstest.Process, n int) {
	t.Helper()
	pinged := make(chan struct{}, n)
	for range n {
		conn, _, err := websocket.DefaultDialer.Dial("ws://"+p.Plain, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		answer := conn.PingHandler()
		conn.SetPingHandler(func(payload string) error {
			defer func() { pinged <- struct{}{} }()
			conn.SetPingHandler(answer)
			return answer(payload)
		})
		if err := conn.WriteMessage(websocket.TextMessage, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				if _, r, err := conn.NextReader(); err != nil {
					return
				} else if _, err := io.Copy(io.Discard, r); err != nil {
					return
				}
			}
		}()
	}
	timeout := time.After(wstest.Timeout)
	for range n {
		select {
		case <-pinged:
		case <-timeout:
			t.Fatal("not all sockets were pinged")
		}
	}
}
