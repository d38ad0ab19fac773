package e2e

import (
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// An HTTP/3 client whose socket was closed long before, and that keeps its
// connection, holds up no exit. Caddy waits for servers of earlier configs, too.
func TestExitWithIdleConnections(t *testing.T) {
	t.Parallel()
	for name, reloads := range map[string][]string{
		"same config":            nil,
		"after a reload":         {"websocket /elsewhere"},
		"after the handler goes": {"websocket /elsewhere", "respond new"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := wstest.StartProcess(t, "", "websocket")
			closeButStay(t, p)
			for _, site := range reloads {
				p.Reload(t, "", site)
			}
			p.Terminate(t)
			p.ExpectExit(t)
		})
	}
}

// closeButStay has sockets of all protocols where many share a connection closed, and the
// clients keep that.
func closeButStay(t *testing.T, p *wstest.Process) {
	t.Helper()
	var peers []*wstest.Peer
	for _, protocol := range []string{"http2", "http3"} {
		peer := p.Dial(t, protocol, "/")
		peer.Echo(ws.OpText, "hello") // it is listed from then on
		peers = append(peers, peer)
	}
	p.CloseSessions(t, "?mode=echo", len(peers))
	for _, peer := range peers {
		peer.ExpectClose(1008, "") // which the client doesn't answer
	}
	deadline := time.After(wstest.Timeout)
	for len(p.Sessions(t, "")) > 0 {
		select {
		case <-deadline:
			t.Fatal("the sockets are still there")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// With shutdown_delay the ends of the sockets are spread over that time.
func TestExitIsSpread(t *testing.T) {
	t.Parallel()
	p := wstest.StartProcess(t, "shutdown_delay 500ms", "websocket")
	peers := p.DialAll(t)
	wait := wstest.Follow(peers, func(peer *wstest.Peer) { peer.ExpectClosing(1012, "") })
	p.Terminate(t)
	wait()
	p.ExpectExit(t)
}

// The admin API closes a part of the sockets, the oldest first, and spreads the
// ends.
func TestAdminDrains(t *testing.T) {
	t.Parallel()
	p := wstest.StartProcess(t, "", "websocket")
	var peers []*wstest.Peer
	for range 5 {
		peer := p.Dial(t, "http1", "/")
		peer.Echo(ws.OpText, "hello")
		peers = append(peers, peer)
	}
	wait := wstest.Follow(peers[:3], func(peer *wstest.Peer) { peer.ExpectClosing(1012, "") })
	p.CloseSessions(t, "?mode=echo&fraction=0.5&over=50ms&code=1012", 3)
	wait()
	for _, peer := range peers[3:] {
		peer.Echo(ws.OpText, "still there")
		peer.CloseNormally()
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
		status, answer, err := p.Call("DELETE", "/websocket/sessions?mode=echo&"+query, nil)
		if err != nil || status != 400 || answer != want+"\n" {
			t.Errorf("%s: got %d %s %v, want 400 %s", query, status, answer, err, want)
		}
	}
}
