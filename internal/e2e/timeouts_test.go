package e2e

import (
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

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
func TestIdleTimeouts(t *testing.T) { //nolint:tparallel // other tests run meanwhile
	t.Parallel()
	const global = "servers {\ntimeouts {\nread_body_idle 50ms\nwrite_idle 50ms\n}\n}"
	for _, global := range []string{global, strings.ReplaceAll(global, "50ms", "-1s")} {
		s := wstest.StartBeside(t, global, "websocket {\nkeepalive 2s 20s\n}")
		var peers []*wstest.Peer
		for _, protocol := range wstest.Protocols {
			peers = append(peers, s.Dial(t, protocol, "/"))
		}
		for _, p := range peers {
			p.ExpectPing() // much later
			p.Send(ws.OpPong, "")
			p.Echo(ws.OpText, "still there")
			p.CloseNormally()
		}
	}
}
