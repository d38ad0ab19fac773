package passthrough

import (
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// A client gets its Close frame also if the connection to the application is lost before
// any frame has passed.
func TestTunnelUpstreamBreaksBeforeAnyFrame(t *testing.T) {
	s := wstest.OnEveryTunnel(t, "", func(t *testing.T, s *wstest.Server, u *wstest.Upstream, protocol string) {
		client, app := u.Tunnel(s, protocol)
		app.Conn.Close()
		client.ExpectClose(1012, "")
		client.AnswerClose(1012)
		client.ExpectEnd()
		client.Conn.Close()
	})
	for _, e := range s.AwaitClosed(t, len(wstest.Protocols), "upstream") {
		if e["close_code"] != 1012.0 {
			t.Errorf("closed with %v, want 1012", e["close_code"])
		}
	}
}
