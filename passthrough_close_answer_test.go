package caddywebsocket

import (
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// A client whose Close frame the application doesn't live to answer gets the answer
// from us.
func TestTunnelAnswersCloseForUpstream(t *testing.T) {
	onEveryTunnel(t, "", func(t *testing.T, s *server, u *upstream, protocol string) {
		client, app := u.tunnel(s, protocol)
		client.sendClose(4000, "done")
		app.expectMasked(ws.OpClose, string(ws.ClosePayload(4000, "done")))
		app.rw.Close()
		client.expectClose(4000, "done")
		client.expectEnd()
	})
}
