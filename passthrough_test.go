package caddywebsocket

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-21dbdb71/caddy-websocket/internal/stream"
	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

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
		if pings := s.keepalive.pings.Load(); pings < 5 {
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

// A client that stops reading while a Ping waits for the end of a frame ends its
// session as any other that stops.
func TestTunnelStallsBeforePing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &Handler{
			Mode: modePassthrough, AllowedOrigins: []string{"*"}, KeepaliveInterval: caddy.Duration(defaultKeepaliveInterval),
		}
		provision(t, h)
		clientSide, client := net.Pipe()
		appSide, app := net.Pipe()
		defer client.Close()
		defer app.Close()
		r := httptest.NewRequest("GET", "/", nil)
		s := newSession(h, r)
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := s.passthrough(&pipeResponse{conn: clientSide}, r, proxyTo(appSide)); err != nil {
				t.Errorf("passthrough: %v", err)
			}
			s.finish()
		}()
		frame := wstest.ServerFrame(ws.FinBit|byte(ws.OpText), "in two halves")
		app.Write(frame[:5])
		if _, err := io.ReadFull(client, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(defaultKeepaliveInterval + time.Second)
		if !s.out.Waiting() {
			t.Fatal("no Ping is due")
		}
		start := time.Now()
		app.Write(slices.Concat(frame[5:], wstest.ServerFrame(ws.FinBit|byte(ws.OpText), ""), frame))
		<-done
		if howEnded(s).by != byWriteTimeout {
			t.Errorf("closed by %s, want %s", howEnded(s).by, byWriteTimeout)
		}
		if took := time.Since(start); took > defaultWriteTimeout*9/8 {
			t.Errorf("that took %v: there is nothing to wait for from a client that has stalled", took)
		}
	})
}

// An application that announces a long frame, and sends none of it, holds no more than one
// that sends little.
func TestAnnouncedFrameHoldsLittle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &Handler{Mode: modePassthrough, AllowedOrigins: []string{"*"}, BufferSize: 4096}
		provision(t, h)
		s := newSession(h, httptest.NewRequest(http.MethodGet, "/", nil))
		tun := &tunnel{session: s, appDone: make(chan struct{}), setDone: func() {}}
		pipe, client := net.Pipe()
		defer client.Close()
		go func() { _, _ = io.Copy(io.Discard, client) }()
		s.begin(stream.NewConn(pipe, pipe, nil, time.Minute))
		header := ws.AppendHeader(nil, ws.FinBit|byte(ws.OpBinary), 8<<20)
		if expected, err := tun.pushRead(header, len(header), false); err != nil || expected > int64(h.buffers.Size) {
			t.Errorf("after the header %d bytes are expected, %v, want at most %d", expected, err, h.buffers.Size)
		}
		if expected, err := tun.pushRead(make([]byte, 4096), 4096, true); err != nil || expected < 1<<20 {
			t.Errorf("after a full read %d bytes are expected, %v, want the rest of the frame", expected, err)
		}
		s.finish()
	})
}

// A client can't get around a rate with what the application reads before it accepts the
// socket: a frame that ends in what looks like the header of an endless one.
func TestRateBeforeAccept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &Handler{Mode: modePassthrough, KeepaliveInterval: -1, MessageRate: &Rate{Limit: 2, Per: caddy.Duration(time.Hour), Action: actionClose}}
		var got bytes.Buffer
		client := tunnelPipeTo(t, h, true, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = io.Copy(&got, r.Body)
			}()
			time.Sleep(time.Millisecond)
			w.WriteHeader(http.StatusOK)
			<-done
			return nil
		}))
		time.Sleep(time.Second)
		endless := ws.AppendHeader(nil, ws.FinBit|byte(ws.OpBinary), 1<<40)
		first := wstest.ClientFrame(ws.FinBit|byte(ws.OpText), append(bytes.Repeat([]byte("x"), 50), endless...))
		ws.Mask(first[6:], wstest.MaskingKey, 0) // so that it is the header as it is sent
		copy(first[2:6], []byte{0, 0, 0, 0})
		_, _ = client.Write(first[:56])
		synctest.Wait()
		_, _ = client.Write(first[56:])
		for range 10 {
			_, _ = client.Write(wstest.ClientFrame(ws.FinBit|byte(ws.OpBinary), nil))
			time.Sleep(time.Millisecond)
		}
		client.Close()
		time.Sleep(closeWait + time.Second)
		if n := bytes.Count(got.Bytes(), wstest.ClientFrame(ws.FinBit|byte(ws.OpBinary), nil)); n > 1 {
			t.Errorf("the application got %d messages more, want 1", n)
		}
	})
}
