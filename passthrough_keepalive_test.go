package caddywebsocket

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

func upstreamKeepaliveHandler() *Handler {
	return &Handler{
		Mode: modePassthrough, KeepaliveInterval: -1,
		UpstreamKeepaliveInterval: caddy.Duration(30 * time.Second), UpstreamKeepaliveTimeout: caddy.Duration(time.Minute),
	}
}

// appPings returns the payloads of the masked Pings in what an application received,
// and what else that is.
func appPings(p []byte) (pings [][]byte, rest []byte) {
	for len(p) > 0 {
		h, n, err := ws.ParseHeader(p)
		if err != nil || n == 0 || int64(len(p)-n) < h.Length {
			return pings, append(rest, p...)
		}
		end := n + int(h.Length)
		if h.Opcode == ws.OpPing && h.Masked {
			payload := bytes.Clone(p[n:end])
			ws.Mask(payload, h.Mask, 0)
			pings = append(pings, payload)
		} else {
			rest = append(rest, p[:end]...)
		}
		p = p[end:]
	}
	return pings, rest
}

// onEveryAppPipe runs f in bubbles for tunnels to an application that is written to, to
// one that reads, and on an Extended CONNECT.
func onEveryAppPipe(t *testing.T, h func() *Handler, f func(t *testing.T, client, app *tunnelEnd)) {
	t.Helper()
	onEveryPipe(t, func(t *testing.T, extendedConnect bool) {
		client, app := tunnelPipe(t, h(), extendedConnect)
		f(t, client, app)
	})
	t.Run("reader", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			appSide, appConn := net.Pipe()
			app := &tunnelEnd{Conn: appConn}
			app.start(t)
			next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
				conn, err := take(w, r)
				if err != nil {
					return err
				}
				return proxyBetween(struct{ io.ReadWriteCloser }{conn}, appSide) // without WriteTo and ReadFrom
			})
			f(t, tunnelPipeTo(t, h(), false, next), app)
		})
	})
}

// An application whose side is silent is sent Pings, and its Pongs are taken out.
func TestUpstreamKeepalive(t *testing.T) {
	onEveryAppPipe(t, upstreamKeepaliveHandler, func(t *testing.T, client, app *tunnelEnd) {
		s := onlySession(t)
		var fromApp []byte
		for i := range 10 {
			time.Sleep(30 * time.Second)
			synctest.Wait()
			pings, rest := appPings(app.bytes())
			if len(pings) != i+1 || len(rest) > 0 {
				t.Fatalf("after %d intervals the application got %x", i+1, app.bytes())
			}
			message := wstest.ServerFrame(ws.FinBit|byte(ws.OpText), "hello")
			pong := wstest.ServerFrame(ws.FinBit|byte(ws.OpPong), string(pings[i]))
			sent := bytes.Join([][]byte{message, pong, pong, message}, nil) // the second one answers nothing
			for _, part := range [][]byte{sent[:len(message)+3], sent[len(message)+3:]} {
				_, _ = app.Write(part)
				synctest.Wait()
			}
			fromApp = bytes.Join([][]byte{fromApp, message, pong, message}, nil)
			if got := client.bytes(); !bytes.Equal(got, fromApp) {
				t.Fatalf("the client got %x, want %x", got, fromApp)
			}
		}
		if howEnded(s) != (ending{}) {
			t.Errorf("the session ended as %v", howEnded(s))
		}
	})
}

// A Pong is taken out of a copy: what an application writes is its own (io.Writer).
func TestUpstreamPongLeavesBufferAlone(t *testing.T) {
	onEveryPipe(t, func(t *testing.T, extendedConnect bool) {
		client := tunnelPipeTo(t, upstreamKeepaliveHandler(), extendedConnect, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			conn, err := take(w, r)
			if err != nil {
				return err
			}
			frame := make([]byte, 2+4+ws.PingPayloadLen)
			if _, err := io.ReadFull(conn, frame); err != nil {
				return err
			}
			pings, _ := appPings(frame)
			answer := append(wstest.ServerFrame(ws.FinBit|byte(ws.OpPong), string(pings[0])), wstest.ServerFrame(ws.FinBit|byte(ws.OpText), "hello")...)
			written := bytes.Clone(answer)
			if _, err := conn.Write(written); err != nil || !bytes.Equal(written, answer) {
				t.Errorf("writing %x left %x, %v", answer, written, err)
			}
			return conn.Close()
		}))
		time.Sleep(31 * time.Second)
		if got, want := client.bytes(), wstest.ServerFrame(ws.FinBit|byte(ws.OpText), "hello"); !bytes.HasPrefix(got, want) {
			t.Errorf("the client got %x, want %x", got, want)
		}
	})
}

// Without the option an application gets what its client sends and nothing else.
func TestUpstreamKeepaliveOff(t *testing.T) {
	onEveryAppPipe(t, func() *Handler { return &Handler{Mode: modePassthrough} }, func(t *testing.T, _, app *tunnelEnd) {
		time.Sleep(59 * time.Second) // and then the silent client is dead
		if got := app.bytes(); len(got) > 0 {
			t.Errorf("the application got %x", got)
		}
	})
}

// An application that answers no Ping is lost: its client is told to come back.
func TestUpstreamTimeout(t *testing.T) {
	onEveryAppPipe(t, upstreamKeepaliveHandler, func(t *testing.T, client, app *tunnelEnd) {
		s := onlySession(t)
		time.Sleep(59 * time.Second)
		if howEnded(s) != (ending{}) {
			t.Fatalf("the session ended early as %v", howEnded(s))
		}
		time.Sleep(2 * time.Second)
		if got, want := client.bytes(), wstest.ServerFrame(ws.FinBit|byte(ws.OpClose), string(ws.ClosePayload(1012, ""))); !bytes.Equal(got, want) {
			t.Errorf("the client got %x, want %x", got, want)
		}
		_, rest := appPings(app.bytes())
		if !isMaskedClose(rest, ws.ClosePayload(1001, "")) {
			t.Errorf("the application got %x besides Pings", rest)
		}
		if end := howEnded(s); end.by != byUpstreamTimeout || end.code != 1012 {
			t.Errorf("the session ended as %v", end)
		}
	})
}

// What an application says for its part, in the middle of a frame or as a Pong of its
// own, is a sign of life.
func TestUpstreamThatTalksIsAlive(t *testing.T) {
	onEveryAppPipe(t, upstreamKeepaliveHandler, func(t *testing.T, client, app *tunnelEnd) {
		s := onlySession(t)
		frame := wstest.ServerFrame(ws.FinBit|byte(ws.OpText), wstest.Letters(18))
		for i := range frame {
			time.Sleep(50 * time.Second)
			_, _ = app.Write(frame[i : i+1])
		}
		pong := wstest.ServerFrame(ws.FinBit|byte(ws.OpPong), "12345678")
		time.Sleep(50 * time.Second)
		_, _ = app.Write(pong)
		time.Sleep(50 * time.Second)
		if got, want := client.bytes(), append(frame, pong...); !bytes.Equal(got, want) || howEnded(s) != (ending{}) {
			t.Errorf("the client got %x, want %x, and the session ended as %v", got, want, howEnded(s))
		}
	})
}

// An application that takes nothing is lost as well, whatever its client sends.
func TestUpstreamThatHangs(t *testing.T) {
	for name, extendedConnect := range map[string]bool{"hijack": false, "extended connect": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				appSide, app := net.Pipe() // from which nobody reads
				defer app.Close()
				client := tunnelPipeTo(t, upstreamKeepaliveHandler(), extendedConnect, proxyTo(appSide))
				s := onlySession(t)
				var talk sync.WaitGroup
				talk.Go(func() {
					for err := error(nil); err == nil; time.Sleep(time.Second) {
						_, err = client.Write(wstest.ClientFrame(ws.FinBit|byte(ws.OpText), []byte("hello")))
					}
				})
				time.Sleep(2 * time.Minute)
				if end := howEnded(s); end.by != byUpstreamTimeout || end.code != 1012 {
					t.Errorf("the session ended as %v", end)
				}
				client.Close()
				talk.Wait()
			})
		})
	}
}

// While the client is in the middle of a frame, a Ping to the application has to wait.
// That is not the application's fault.
func TestUpstreamPingWaitsForFrame(t *testing.T) {
	onEveryAppPipe(t, upstreamKeepaliveHandler, func(t *testing.T, client, app *tunnelEnd) {
		s := onlySession(t)
		frame := wstest.ClientFrame(ws.FinBit|byte(ws.OpText), []byte(wstest.Letters(100)))
		_, _ = client.Write(frame[:50])
		time.Sleep(5*time.Minute + time.Second)
		if got := app.bytes(); !bytes.Equal(got, frame[:50]) || howEnded(s) != (ending{}) {
			t.Fatalf("the application got %x, and the session ended as %v", got, howEnded(s))
		}
		_, _ = client.Write(frame[50:])
		synctest.Wait()
		pings, rest := appPings(app.bytes())
		if len(pings) != 1 || !bytes.Equal(rest, frame) {
			t.Errorf("the application got %d Pings and %x, want one and %x", len(pings), rest, frame)
		}
	})
}

// An application whose client doesn't read isn't heard.
func TestUpstreamBehindSlowClient(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := upstreamKeepaliveHandler()
		h.WriteTimeout = caddy.Duration(time.Hour)
		provision(t, h)
		clientSide, client := net.Pipe()
		appSide, app := net.Pipe()
		end := &tunnelEnd{Conn: app}
		end.start(t)
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		s := newSession(h, r)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = s.passthrough(&pipeResponse{conn: clientSide}, r, proxyTo(appSide))
			s.finish()
		}()
		synctest.Wait()
		_, _ = app.Write(wstest.ServerFrame(ws.FinBit|byte(ws.OpText), "hello")) // which nobody reads
		time.Sleep(10 * time.Minute)
		if howEnded(s) != (ending{}) {
			t.Errorf("the session ended as %v", howEnded(s))
		}
		client.Close()
		<-done
	})
}

// withoutAppPings takes our Pings out of what an application received.
func withoutAppPings(p []byte, nonce uint32) []byte {
	const length = 2 + 4 + ws.PingPayloadLen
	for i := 0; i+length <= len(p); i++ {
		if p[i] != ws.FinBit|byte(ws.OpPing) || p[i+1] != ws.MaskBit|ws.PingPayloadLen {
			continue
		}
		payload := bytes.Clone(p[i+6 : i+length])
		ws.Mask(payload, [4]byte(p[i+2:i+6]), 0)
		if binary.BigEndian.Uint32(payload) == nonce {
			p = append(bytes.Clone(p[:i]), p[i+length:]...)
			i--
		}
	}
	return p
}
