package passthrough

import (
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// A client whose Close frame the application doesn't live to answer gets the answer
// from us.
func TestTunnelAnswersCloseForUpstream(t *testing.T) {
	wstest.OnEveryTunnel(t, "", func(t *testing.T, s *wstest.Server, u *wstest.Upstream, protocol string) {
		client, app := u.Tunnel(s, protocol)
		client.SendClose(4000, "done")
		app.ExpectMasked(ws.OpClose, string(ws.ClosePayload(4000, "done")))
		app.Conn.Close()
		client.ExpectClose(4000, "done")
		client.ExpectEnd()
	})
}
