package caddywebsocket

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// answerAtOnce answers the first Close frame that an end of a tunnel receives.
func (e *tunnelEnd) answerAtOnce(isClose, answer []byte) {
	for !bytes.Contains(e.bytes(), isClose) {
		time.Sleep(time.Nanosecond)
	}
	_, _ = e.Write(answer)
}

// The first Close frame decides how a session ends, however quickly the other side
// answers it.
func TestFirstCloseFrameDecides(t *testing.T) {
	fromApp, fromClient := wstest.ServerFrame(ws.FinBit|byte(ws.OpClose), string(ws.ClosePayload(4001, "app"))), wstest.ClientFrame(ws.FinBit|byte(ws.OpClose), ws.ClosePayload(1000, ""))
	for _, c := range []struct {
		name  string
		first func(client, app *tunnelEnd)
		want  ending
	}{
		{"application", func(client, app *tunnelEnd) {
			go client.answerAtOnce(fromApp, fromClient)
			_, _ = app.Write(fromApp)
		}, ending{by: byUpstream, code: 4001, reason: "app", peers: true}},
		{"client", func(client, app *tunnelEnd) {
			go app.answerAtOnce(fromClient, fromApp)
			_, _ = client.Write(fromClient)
		}, ending{by: byClient, code: 1000, peers: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 50 {
				onEveryPipe(t, func(t *testing.T, extendedConnect bool) {
					client, app := tunnelPipe(t, &Handler{Mode: modePassthrough, KeepaliveInterval: -1}, extendedConnect)
					s := onlySession(t)
					c.first(client, app)
					time.Sleep(time.Microsecond)
					synctest.Wait()
					if got := howEnded(s); got != c.want {
						t.Errorf("the session ended as %v, want %v", got, c.want)
					}
				})
			}
		})
	}
}

// A Close frame that nobody answers ends the session after closeWait as what it
// was, and its sender is not sent another one.
func TestUnansweredClose(t *testing.T) {
	for _, interval := range []time.Duration{-1, time.Second} {
		onEveryPipe(t, func(t *testing.T, extendedConnect bool) {
			h := &Handler{Mode: modePassthrough, KeepaliveInterval: caddy.Duration(interval)}
			client, app := tunnelPipe(t, h, extendedConnect)
			s := onlySession(t)
			frame := wstest.ServerFrame(ws.FinBit|byte(ws.OpClose), string(ws.ClosePayload(1012, "restart")))
			_, _ = app.Write(frame)
			time.Sleep(closeWait + time.Second)
			if got, want := howEnded(s), (ending{by: byUpstream, code: 1012, reason: "restart", peers: true}); got != want || !onlyEnded() {
				t.Errorf("the session ended as %v, want %v", got, want)
			}
			if got := client.bytes(); !bytes.Equal(got, frame) {
				t.Errorf("the client got %x, want %x", got, frame)
			}
			if got := app.bytes(); len(got) > 0 {
				t.Errorf("the application got %x", got)
			}
		})
		onEveryPipe(t, func(t *testing.T, extendedConnect bool) {
			h := &Handler{Mode: modePassthrough, KeepaliveInterval: caddy.Duration(interval)}
			client, app := tunnelPipe(t, h, extendedConnect)
			s := onlySession(t)
			frame := wstest.ClientFrame(ws.FinBit|byte(ws.OpClose), ws.ClosePayload(4000, "done"))
			_, _ = client.Write(frame)
			time.Sleep(closeWait + time.Second)
			if got, want := howEnded(s), (ending{by: byClient, code: 4000, reason: "done", peers: true}); got != want || !onlyEnded() {
				t.Errorf("the session ended as %v, want %v", got, want)
			}
			if got, want := client.bytes(), wstest.ServerFrame(ws.FinBit|byte(ws.OpClose), string(ws.ClosePayload(4000, "done"))); !bytes.Equal(got, want) {
				t.Errorf("the client got %x, want %x", got, want)
			}
			if got := app.bytes(); !bytes.Equal(got, frame) {
				t.Errorf("the application got %x, want %x", got, frame)
			}
		})
	}
}

// The application is sent our Close frame when the client's has left, or after a
// second.
func TestClientIsToldFirst(t *testing.T) {
	onEveryPipe(t, func(t *testing.T, extendedConnect bool) {
		client, app := tunnelPipe(t, &Handler{Mode: modePassthrough, KeepaliveInterval: -1}, extendedConnect)
		s := onlySession(t)
		frame := wstest.ServerFrame(ws.FinBit|byte(ws.OpBinary), wstest.Letters(100))
		_, _ = app.Write(frame[:50])
		synctest.Wait()
		s.plan(0, ending{by: byAdmin, code: 4000, reason: "bye"})
		time.Sleep(announceWait / 2)
		if got := app.bytes(); len(got) > 0 {
			t.Errorf("the application got %x before the client", got)
		}
		_, _ = app.Write(frame[50:])
		synctest.Wait()
		bye := ws.ClosePayload(4000, "bye")
		if got, want := client.bytes(), append(frame, wstest.ServerFrame(ws.FinBit|byte(ws.OpClose), string(bye))...); !bytes.Equal(got, want) {
			t.Errorf("the client got %x, want %x", got, want)
		}
		if !isMaskedClose(app.bytes(), bye) {
			t.Errorf("the application got %x", app.bytes())
		}
	})
	onEveryPipe(t, func(t *testing.T, extendedConnect bool) {
		_, app := tunnelPipe(t, &Handler{Mode: modePassthrough, KeepaliveInterval: -1}, extendedConnect)
		s := onlySession(t)
		_, _ = app.Write(wstest.ServerFrame(ws.FinBit|byte(ws.OpBinary), wstest.Letters(100))[:50])
		synctest.Wait()
		s.plan(0, ending{by: byAdmin, code: 4000, reason: "bye"})
		time.Sleep(announceWait + time.Millisecond)
		if !isMaskedClose(app.bytes(), ws.ClosePayload(4000, "bye")) {
			t.Errorf("the application got %x while the client's frame goes on", app.bytes())
		}
	})
}

// The log doesn't have a code that nobody was sent.
func TestCloseThatDoesNotFitIn(t *testing.T) {
	want := ending{by: byAdmin, code: closeNone, reason: "no Close frame could be sent: bye"}
	onEveryPipe(t, func(t *testing.T, extendedConnect bool) {
		_, app := tunnelPipe(t, &Handler{Mode: modePassthrough, KeepaliveInterval: -1}, extendedConnect)
		s := onlySession(t)
		_, _ = app.Write(wstest.ServerFrame(ws.FinBit|byte(ws.OpBinary), wstest.Letters(100))[:50])
		synctest.Wait()
		s.plan(0, ending{by: byAdmin, code: 4000, reason: "bye"})
		time.Sleep(closeWait + time.Second)
		if got := howEnded(s); got != want || !onlyEnded() {
			t.Errorf("within a frame of the application's: the session ended as %v, want %v", got, want)
		}
	})
	bubble(t, func(t *testing.T) {
		p := pipe(t, &Handler{KeepaliveInterval: -1, WriteTimeout: caddy.Duration(time.Hour)})
		p.Send(ws.OpText, "echo that nobody reads")
		synctest.Wait()
		s := onlySession(t)
		s.plan(0, ending{by: byAdmin, code: 4000, reason: "bye"})
		time.Sleep(closeWait + time.Second)
		if got := howEnded(s); got != want || !onlyEnded() {
			t.Errorf("during a stalled write: the session ended as %v, want %v", got, want)
		}
	})
}

// isMaskedClose reports whether p is one masked Close frame with a payload.
func isMaskedClose(p, payload []byte) bool {
	h, n, err := ws.ParseHeader(p)
	if err != nil || n == 0 || h.Opcode != ws.OpClose {
		return false
	}
	got := slices.Clone(p[n:])
	ws.Mask(got, h.Mask, 0)
	return bytes.Equal(got, payload)
}

// A Close frame that was read for an application before it accepted, and came after,
// is not lost.
func TestCloseAcrossTheAccept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &Handler{Mode: modePassthrough, AllowedOrigins: []string{"*"}}
		provision(t, h)
		s := newSession(h, httptest.NewRequest(http.MethodConnect, "/", nil))
		body := make(bodyOf, 1)
		r := httptest.NewRequest(http.MethodConnect, "/", nil)
		tun := &tunnel{session: s, appDone: make(chan struct{}), setDone: func() {}}
		tun.up = ws.Scanner{Client: true}
		read := make(chan string)
		go func() {
			p := make([]byte, 100)
			n, _ := (&tunnelBody{r.Body, tun}).t.readBefore(body, p)
			read <- string(p[:n])
		}()
		synctest.Wait()
		s.begin(new(panickingStream))
		frame := string(wstest.ClientFrame(ws.FinBit|byte(ws.OpClose), ws.ClosePayload(4000, "early")))
		body <- frame
		if got := <-read; got != frame {
			t.Errorf("read %x, want %x", got, frame)
		}
		if got, want := howEnded(s), (ending{by: byClient, code: 4000, reason: "early", peers: true}); got != want {
			t.Errorf("the session ended as %v, want %v", got, want)
		}
		s.finish()
	})
}

// A bodyOf is a body that reads what is sent to it.
type bodyOf chan string

func (b bodyOf) Read(p []byte) (int, error) { return copy(p, <-b), nil }

// Two handlers in a chain see what came with the handshake.
func TestEarlyFrameThroughTwoHandlers(t *testing.T) {
	const nested = "websocket passthrough {\nallowed_origins *\n}\n"
	for name, site := range map[string]string{
		"passthrough and echo":        "route {\n" + nested + "websocket\n}",
		"passthrough twice, and echo": "route {\n" + nested + nested + "websocket\n}",
	} {
		t.Run(name, func(t *testing.T) {
			s := wstest.Start(t, site)
			p := s.SendRequest(t, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
				"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"+
				string(wstest.ClientFrame(ws.FinBit|byte(ws.OpText), []byte("early"))))
			for line := ""; line != "\r\n"; line = p.ReadLine() {
				if strings.HasPrefix(line, "HTTP/") && !strings.Contains(line, "101") {
					t.Fatal(line)
				}
			}
			p.Expect(ws.OpText, "early")
			p.Echo(ws.OpText, "and later")
			p.CloseNormally()
		})
	}
}
