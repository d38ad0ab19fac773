package caddywebsocket

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
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

// longForm makes a masked frame with a length that is longer than it must be.
func longForm(first byte, payload []byte) []byte {
	frame := wstest.ClientFrame(first, payload)
	return bytes.Join([][]byte{frame[:1], {ws.MaskBit | 127, 0, 0, 0, 0, 0, 0, 0, byte(len(payload))}, frame[2:]}, nil)
}

// No frame of a client's switches limits, pings or death off.
func TestTunnelStaysSupervised(t *testing.T) {
	tooMuch := []byte(strings.Repeat("x", 1025))
	for name, c := range map[string]struct {
		frame []byte
		code  int
	}{
		"length in a longer form": {longForm(ws.FinBit|byte(ws.OpBinary), []byte("short")), 1009},
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

// Without a limit, too, broken frames of a client's pass without ending its pings
// or their death, and the log says what is missing.
func TestTunnelUnsupervised(t *testing.T) {
	onEveryPipe(t, func(t *testing.T, extendedConnect bool) {
		client, app := tunnelPipe(t, keepaliveHandler(), extendedConnect)
		s := onlySession(t)
		broken := wstest.ClientFrame(ws.FinBit|3, []byte("reserved"))
		_, _ = client.Write(broken)
		for range 10 {
			time.Sleep(25 * time.Second)
			_, _ = client.Write([]byte{0}) // life, of a kind
		}
		synctest.Wait()
		if got := app.bytes(); !bytes.Equal(got, append(broken, make([]byte, 10)...)) {
			t.Errorf("the application got %x", got)
		}
		if pings := s.pings.Load(); pings < 5 {
			t.Errorf("%d pings were sent", pings)
		}
		fields := s.data()
		if fields["supervised"] != false || !strings.Contains(fields["error"].(string), "client can't be followed: close 1002: reserved opcode 3") {
			t.Errorf("the report says %v", fields)
		}
		time.Sleep(90 * time.Second)
		if howEnded(s).by != byKeepaliveTimeout {
			t.Errorf("the silent client's session ended as %v", howEnded(s))
		}
	})
}

// A client that receives one frame for long can't be asked for a sign of life, and
// isn't dead.
func TestTunnelLongFrame(t *testing.T) {
	onEveryPipe(t, func(t *testing.T, extendedConnect bool) {
		client, app := tunnelPipe(t, keepaliveHandler(), extendedConnect)
		s := onlySession(t)
		frame := wstest.ServerFrame(ws.FinBit|byte(ws.OpText), wstest.Letters(100))
		for i := range 10 {
			if i > 0 {
				time.Sleep(49 * time.Second)
			}
			_, _ = app.Write(frame[len(frame)*i/10 : len(frame)*(i+1)/10])
		}
		synctest.Wait()
		got, ok := bytes.CutPrefix(client.bytes(), frame)
		if !ok || len(got) != 2+ws.PingPayloadLen || howEnded(s) != (ending{}) {
			t.Fatalf("the client got %x, and the session ended as %v", client.bytes(), howEnded(s))
		}
		// Now it has been asked, and has half of the timeout to answer.
		time.Sleep(29 * time.Second)
		if howEnded(s) != (ending{}) {
			t.Errorf("the session ended as %v", howEnded(s))
		}
		time.Sleep(2 * time.Second)
		if howEnded(s).by != byKeepaliveTimeout {
			t.Errorf("the silent client's session ended as %v", howEnded(s))
		}
	})
}

// A frame that doesn't go on is no sign of life.
func TestTunnelStalledFrame(t *testing.T) {
	onEveryPipe(t, func(t *testing.T, extendedConnect bool) {
		_, app := tunnelPipe(t, keepaliveHandler(), extendedConnect)
		s := onlySession(t)
		_, _ = app.Write(wstest.ServerFrame(ws.FinBit|byte(ws.OpText), wstest.Letters(100))[:50])
		time.Sleep(61 * time.Second)
		if howEnded(s).by != byKeepaliveTimeout {
			t.Errorf("the silent client's session ended as %v", howEnded(s))
		}
	})
}

func keepaliveHandler() *Handler {
	return &Handler{
		Mode: modePassthrough, KeepaliveInterval: caddy.Duration(30 * time.Second), KeepaliveTimeout: caddy.Duration(time.Minute),
	}
}

// onEveryPipe runs f in bubbles for tunnels of both kinds.
func onEveryPipe(t *testing.T, f func(t *testing.T, extendedConnect bool)) {
	t.Helper()
	for name, extendedConnect := range map[string]bool{"hijack": false, "extended connect": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) { f(t, extendedConnect) })
		})
	}
}
