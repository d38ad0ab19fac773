package caddywebsocket

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// An HTTP/3 client whose socket was closed long before, and that keeps its
// connection, holds up no exit.
func TestExitWithIdleConnections(t *testing.T) {
	p := startProcess(t, "", "websocket")
	var peers []*peer
	for _, protocol := range []string{"http2", "http3"} {
		peer := p.dial(t, protocol, "/")
		peer.echo(ws.OpText, "hello") // it is listed from then on
		peers = append(peers, peer)
	}
	p.closes(t, "?mode=echo", len(peers))
	for _, peer := range peers {
		peer.expectClose(1008, "") // which the client doesn't answer
	}
	deadline := time.After(patience)
	for len(p.listed(t, "")) > 0 {
		select {
		case <-deadline:
			t.Fatal("the sockets are still there")
		case <-time.After(50 * time.Millisecond):
		}
	}
	p.terminate(t)
	p.expectExit(t)
}

// With shutdown_delay the ends of the sockets are spread over that time.
func TestExitIsSpread(t *testing.T) {
	p := startProcess(t, "shutdown_delay 500ms", "websocket")
	peers := p.dialAll(t)
	p.terminate(t)
	for _, peer := range peers {
		peer.expectClose(1012, "")
		peer.sendClose(1012, "")
		peer.expectEnd()
		peer.rw.Close()
	}
	p.expectExit(t)
}

func TestDrainSpreads(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRegistry()
		ends := make(map[time.Duration]bool)
		start := time.Now()
		var peers []*peer
		for range 20 {
			h := &Handler{KeepaliveInterval: -1}
			peers = append(peers, pipe(t, h))
		}
		synctest.Wait()
		for _, s := range sessions.list() {
			g.ordered = append(g.ordered, s)
			g.byID[s.id] = s
		}
		g.drain(time.Minute)
		done := make(chan time.Duration)
		for _, peer := range peers {
			go func() {
				peer.expectClose(1012, "")
				done <- time.Since(start)
				peer.sendClose(1012, "")
			}()
		}
		for range peers {
			ends[<-done] = true
		}
		if took := time.Since(start); len(ends) < 10 || took < 30*time.Second || took > time.Minute {
			t.Errorf("the sockets ended at %d moments within %v", len(ends), took)
		}
	})
}

// The admin API closes a part of the sockets, the oldest first, and spreads the
// ends.
func TestAdminDrains(t *testing.T) {
	p := startProcess(t, "", "websocket")
	var peers []*peer
	for range 5 {
		peer := p.dial(t, "http1", "/")
		peer.echo(ws.OpText, "hello")
		peers = append(peers, peer)
	}
	p.closes(t, "?mode=echo&fraction=0.5&over=50ms&code=1012", 3)
	for _, peer := range peers[:3] {
		peer.expectClose(1012, "")
		peer.sendClose(1012, "")
		peer.expectEnd()
	}
	for _, peer := range peers[3:] {
		peer.echo(ws.OpText, "still there")
		peer.bye()
	}
	for query, want := range map[string]string{
		"over=soon":     `{"error":"over 'soon': it must be a duration above 0, such as 60s"}`,
		"over=0s":       `{"error":"over '0s': it must be a duration above 0, such as 60s"}`,
		"over=-1s":      `{"error":"over '-1s': it must be a duration above 0, such as 60s"}`,
		"fraction=0":    `{"error":"fraction '0': it must be a number above 0 and at most 1"}`,
		"fraction=1.01": `{"error":"fraction '1.01': it must be a number above 0 and at most 1"}`,
		"fraction=NaN":  `{"error":"fraction 'NaN': it must be a number above 0 and at most 1"}`,
		"fraction=half": `{"error":"fraction 'half': it must be a number above 0 and at most 1"}`,
	} {
		status, answer, err := p.call("DELETE", "/websocket/sessions?mode=echo&"+query, nil)
		if err != nil || status != 400 || answer != want+"\n" {
			t.Errorf("%s: got %d %s %v, want 400 %s", query, status, answer, err, want)
		}
	}
}
