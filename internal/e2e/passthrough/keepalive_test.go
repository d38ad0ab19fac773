package passthrough

import (
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// The application is sent Pings while its side is silent, and its client doesn't see the
// Pongs.
func TestUpstreamKeepalive(t *testing.T) {
	wstest.OnEveryTunnel(t, "keepalive off\nupstream_keepalive 20ms 20s", func(t *testing.T, s *wstest.Server, u *wstest.Upstream, protocol string) {
		client, app := u.Tunnel(s, protocol)
		for range 5 {
			first, payload := app.ReadMasked()
			if first != ws.FinBit|byte(ws.OpPing) {
				t.Fatalf("the application got frame %#x %q, want a Ping", first, payload)
			}
			app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpPong), payload))
			app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpText), "hello"))
			client.Expect(ws.OpText, "hello")
		}
		client.SendClose(4000, "done")
		for first, payload := app.ReadMasked(); first != ws.FinBit|byte(ws.OpClose); first, payload = app.ReadMasked() {
			if first != ws.FinBit|byte(ws.OpPing) {
				t.Fatalf("the application got frame %#x %q", first, payload)
			}
		}
		app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpClose), string(ws.ClosePayload(4000, "done"))))
		client.ExpectClose(4000, "done")
	})
}

// A real application answers by itself, and is not disturbed.
func TestUpstreamKeepaliveOfGorilla(t *testing.T) {
	upstream := wstest.EchoUpstream(t)
	s := wstest.Start(t, "websocket passthrough {\nallowed_origins *\nkeepalive off\nupstream_keepalive 10ms 20s\n}\nreverse_proxy "+upstream)
	for _, protocol := range wstest.Protocols {
		t.Run(protocol, func(t *testing.T) {
			client := s.Dial(t, protocol, "/")
			for range 300 {
				client.Echo(ws.OpText, wstest.Letters(1000))
			}
			client.SendClose(1000, "")
			client.ExpectClose(1000, "")
		})
	}
}

// An application that hangs costs its client one reconnect.
func TestUpstreamTimeout(t *testing.T) {
	t.Parallel()
	s := wstest.OpenTunnels(t, "upstream_keepalive 20ms 200ms", func(s *wstest.Server, u *wstest.Upstream, protocol string) {
		client, _ := u.Tunnel(s, protocol)
		client.ExpectClose(1012, "")
		client.AnswerClose(1012)
	})
	for _, e := range s.AwaitClosed(t, len(wstest.Protocols), "upstream_timeout") {
		if e["close_code"] != 1012.0 {
			t.Errorf("closed with %v, want 1012", e["close_code"])
		}
	}
}

// The same for one that takes nothing while its client goes on.
func TestUpstreamThatTakesNothing(t *testing.T) {
	t.Parallel()
	var clients []*wstest.Peer
	wstest.OpenTunnels(t, "upstream_keepalive 50ms 1s", func(s *wstest.Server, u *wstest.Upstream, protocol string) {
		client, _ := u.Tunnel(s, protocol)
		go wstest.Stall(client, wstest.ClientFrame(ws.FinBit|byte(ws.OpBinary), make([]byte, 1<<20)))
		clients = append(clients, client)
	})
	for _, client := range clients {
		client.ExpectClose(1012, "")
		client.Conn.Close()
	}
}
