package passthrough

import (
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// Whatever fields an upstream sends with its 101, the socket is supervised.
func TestTunnelWhateverTheAnswerSays(t *testing.T) {
	wstest.OnEveryTunnel(t, "keepalive 50ms 20s\nmax_message_size 1KiB", func(t *testing.T, s *wstest.Server, u *wstest.Upstream, protocol string) {
		for _, fields := range []string{
			"Content-Length: 0\r\n", "Content-Length: 5\r\n", "Content-Length: 0\r\nContent-Type: text/plain\r\n",
			"Content-Type: text/html\r\n", "Content-Encoding: gzip\r\n",
		} {
			t.Run(strings.TrimSpace(strings.ReplaceAll(fields, "\r\n", " ")), func(t *testing.T) {
				u := u.For(t)
				apps := make(chan *wstest.Peer)
				go func() {
					_, app := u.AcceptSocketWith(fields)
					apps <- app
				}()
				client := s.Dial(t, protocol, "/")
				app := <-apps
				client.Send(ws.OpPong, client.ExpectPing())
				app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpText), "more than five bytes"))
				for client.NextIsPing() {
					client.ExpectPing()
				}
				client.Expect(ws.OpText, "more than five bytes")
				client.Send(ws.OpText, strings.Repeat("x", 1025))
				client.ExpectCloseAfterPings(1009, "max_message_size")
				client.AnswerClose(1009)
				app.Conn.Close()
				client.ExpectEnd()
			})
		}
	})
}

// No frame of a client's switches limits, pings or death off.
func TestTunnelStaysSupervised(t *testing.T) {
	tooMuch := []byte(strings.Repeat("x", 1025))
	for name, c := range map[string]struct {
		frame []byte
		code  int
	}{
		"length in a longer form": {wstest.LongForm(ws.FinBit|byte(ws.OpBinary), []byte("short")), 1009},
		"no mask":                 {wstest.ServerFrame(ws.FinBit|byte(ws.OpBinary), "short"), 1009},
		"reserved bits":           {wstest.ClientFrame(ws.FinBit|ws.RSVBits|byte(ws.OpBinary), []byte("short")), 1009},
		"message within another":  {wstest.ClientFrame(byte(ws.OpBinary), []byte("short")), 1009},
		"reserved opcode":         {wstest.ClientFrame(ws.FinBit|3, []byte("short")), 1002},
		"long control frame":      {wstest.ClientFrame(ws.FinBit|byte(ws.OpPing), tooMuch), 1002},
		"fragmented control":      {wstest.ClientFrame(byte(ws.OpPing), []byte("short")), 1002},
	} {
		t.Run(name, func(t *testing.T) {
			wstest.OnEveryTunnel(t, "keepalive 50ms 20s\nmax_message_size 1KiB", func(t *testing.T, s *wstest.Server, u *wstest.Upstream, protocol string) {
				client, app := u.Tunnel(s, protocol)
				client.WriteRaw(c.frame, wstest.ClientFrame(ws.FinBit|byte(ws.OpBinary), tooMuch))
				client.ExpectCloseAfterPings(c.code, "")
				client.AnswerClose(c.code)
				app.Conn.Close()
				client.ExpectEnd()
			})
		})
	}
}
