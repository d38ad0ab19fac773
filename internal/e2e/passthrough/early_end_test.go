package passthrough

import (
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// A client gets its Close frame also if the connection to the application is lost before
// any frame has passed.
func TestTunnelUpstreamBreaksBeforeAnyFrame(t *testing.T) {
	wstest.OnEveryTunnel(t, "", func(t *testing.T, s *wstest.Server, u *wstest.Upstream, protocol string) {
		closed := len(s.Logs.Entries("socket closed"))
		client, app := u.Tunnel(s, protocol)
		app.Conn.Close()
		client.ExpectClose(1012, "")
		client.AnswerClose(1012)
		client.ExpectEnd()
		client.Conn.Close()
		socket := s.Logs.Await(t, "socket closed", closed+1)[closed]
		if socket["closed_by"] != "upstream" || socket["close_code"] != 1012.0 {
			t.Errorf("closed by %v with %v, want %s with 1012", socket["closed_by"], socket["close_code"], "upstream")
		}
	})
}
