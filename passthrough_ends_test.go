package caddywebsocket

import (
	"fmt"
	"github.com/caddyserver/caddy/v2"
	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"io"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTunnelDeadClient(t *testing.T) {
	onEveryTunnel(t, "keepalive 50ms 200ms", func(t *testing.T, s *server, u *upstream, protocol string) {
		client, app := u.tunnel(s, protocol)
		app.expectMasked(ws.OpClose, string(ws.ClosePayload(1001, "")))
		app.rw.Close()
		client.expectEndAfterPings()
	})
}

func TestTunnelUpstreamBreaks(t *testing.T) {
	onEveryTunnel(t, "", func(t *testing.T, s *server, u *upstream, protocol string) {
		client, app := u.tunnel(s, protocol)
		app.write(serverFrame(ws.FinBit|byte(ws.OpText), "last words"))
		client.expect(ws.OpText, "last words")
		app.rw.Close()
		client.expectClose(1012, "")
		client.answerClose(1012)
		client.expectEnd()
	})
}

func TestTunnelLifetime(t *testing.T) {
	onEveryTunnel(t, "max_lifetime 200ms", func(t *testing.T, s *server, u *upstream, protocol string) {
		client, app := u.tunnel(s, protocol)
		client.expectClose(1012, "")
		app.expectMasked(ws.OpClose, string(ws.ClosePayload(1001, "")))
		app.write(serverFrame(ws.FinBit|byte(ws.OpClose), string(ws.ClosePayload(1001, ""))))
		client.answerClose(1012)
		app.rw.Close()
		client.expectEnd()
	})
}

// The Close frame that reverse_proxy writes when its config is replaced never
// lands within a frame.
func TestTunnelReload(t *testing.T) {
	u := listenUpstream(t)
	site := "websocket passthrough {\nallowed_origins *\n}\nrespond /no-socket 204\nreverse_proxy " + u.Addr().String() + " {\nstream_close_delay 1ms\n}"
	s := start(t, site)
	for i, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			u := &upstream{u.Listener, t}
			idle, app := u.tunnel(s, protocol)
			defer app.rw.Close()
			// reverse_proxy knows of a connection from when it copies.
			idle.send(ws.OpText, "hello")
			app.expectMasked(ws.OpText, "hello")
			busy, app := u.tunnel(s, protocol)
			defer app.rw.Close()
			frame := serverFrame(ws.FinBit|byte(ws.OpBinary), strings.Repeat("x", 1000))
			app.write(frame[:500])
			if _, err := io.ReadFull(busy.br, make([]byte, 500)); err != nil {
				t.Fatal(err)
			}
			s.reload(t, "", fmt.Sprintf("header X-Config %d\n%s", i, site))
			idle.expectClose(1012, "")
			idle.answerClose(1012)
			idle.expectEnd()
			busy.deadline(time.Now().Add(patience))
			if rest, _ := io.ReadAll(busy.br); len(rest) > 0 {
				t.Errorf("%x came within a frame", rest)
			}
		})
	}
}

func TestTunnelSurvivesReload(t *testing.T) {
	u := listenUpstream(t)
	site := "websocket passthrough {\nallowed_origins *\n}\nrespond /no-socket 204\nreverse_proxy " + u.Addr().String() + " {\nstream_close_delay 1h\n}"
	s := start(t, site)
	for i, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			u := &upstream{u.Listener, t}
			client, app := u.tunnel(s, protocol)
			frame := serverFrame(ws.FinBit|byte(ws.OpText), "in two halves")
			app.write(frame[:5])
			s.reload(t, "", fmt.Sprintf("header X-Config %d\n%s", i, site))
			app.write(frame[5:])
			client.expect(ws.OpText, "in two halves")
			client.send(ws.OpText, "hello")
			app.expectMasked(ws.OpText, "hello")
			app.rw.Close()
			client.rw.Close()
		})
	}
}

// A client that stops in the middle of a frame, or that sends what is no frame,
// holds up no end.
func TestTunnelEndsWithinFrame(t *testing.T) {
	onEveryTunnel(t, "max_lifetime 100ms", func(t *testing.T, s *server, u *upstream, protocol string) {
		for name, sent := range map[string][]byte{
			"half a frame": clientFrame(ws.FinBit|byte(ws.OpText), []byte("never finished"))[:10],
			"no frame":     {0x83, 0x80, 1, 2, 3, 4, 5},
		} {
			closed := len(s.logs.entries("socket closed"))
			client, app := u.tunnel(s, protocol)
			client.write(sent)
			if _, err := io.ReadFull(app.br, make([]byte, len(sent))); err != nil {
				t.Fatal(err)
			}
			client.expectClose(1012, "")
			entries := s.logs.await(t, "socket closed", closed+1)
			if by := entries[len(entries)-1]["closed_by"]; by != string(byLifetime) {
				t.Errorf("%s: closed by %v, want %v", name, by, byLifetime)
			}
			app.rw.Close()
		}
	})
}

// An application that neither reads nor writes is let go when its socket ends.
func TestTunnelStalledUpstream(t *testing.T) {
	onEveryTunnel(t, "max_lifetime 300ms", func(t *testing.T, s *server, u *upstream, protocol string) {
		closed := len(s.logs.entries("socket closed"))
		client, app := u.tunnel(s, protocol)
		defer app.rw.Close()
		go func() {
			block := clientFrame(ws.FinBit|byte(ws.OpBinary), make([]byte, 1<<20))
			for {
				if _, err := client.rw.Write(block); err != nil {
					return
				}
			}
		}()
		s.logs.await(t, "socket closed", closed+1)
	})
}

// So is a client that doesn't answer the application's Close frame.
func TestTunnelClientIgnoresClose(t *testing.T) {
	onEveryTunnel(t, "keepalive off", func(t *testing.T, s *server, u *upstream, protocol string) {
		closed := len(s.logs.entries("socket closed"))
		client, app := u.tunnel(s, protocol)
		app.write(serverFrame(ws.FinBit|byte(ws.OpClose), string(ws.ClosePayload(4001, "go"))))
		app.rw.Close()
		client.expectClose(4001, "go")
		entries := s.logs.await(t, "socket closed", closed+1)
		if by := entries[len(entries)-1]["closed_by"]; by != string(byUpstream) {
			t.Errorf("closed by %v, want %v", by, byUpstream)
		}
	})
}

// A client that is gone is gone for the application, too, before any timeout.
func TestTunnelClientGone(t *testing.T) {
	onEveryTunnel(t, "keepalive off", func(t *testing.T, s *server, u *upstream, protocol string) {
		closed := len(s.logs.entries("socket closed"))
		client, app := u.tunnel(s, protocol)
		client.send(ws.OpText, "hello")
		app.expectMasked(ws.OpText, "hello")
		client.rw.Close()
		app.deadline(time.Now().Add(patience))
		if rest, err := io.ReadAll(app.br); len(rest) > 0 || err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("got %q, %v, want the end", rest, err)
		}
		entries := s.logs.await(t, "socket closed", closed+1)
		if by := entries[len(entries)-1]["closed_by"]; by != string(byClient) {
			t.Errorf("closed by %v, want %v", by, byClient)
		}
	})
}

func TestExitWithTunnels(t *testing.T) {
	u := listenUpstream(t)
	p := startProcess(t, "", "websocket passthrough {\nallowed_origins *\n}\nrespond /no-socket 204\nreverse_proxy "+u.Addr().String())
	for _, protocol := range protocols {
		client, app := u.tunnel(&p.server, protocol)
		client.write(clientFrame(ws.FinBit|byte(ws.OpText), []byte("never finished"))[:10])
		defer app.rw.Close()
		_, app = u.tunnel(&p.server, protocol)
		defer app.rw.Close()
	}
	p.terminate(t)
	p.expectExit(t)
}

// A client that closed and went leaves no application behind that doesn't care.
func TestTunnelUpstreamIgnoresClose(t *testing.T) {
	onEveryTunnel(t, "keepalive off", func(t *testing.T, s *server, u *upstream, protocol string) {
		closed := len(s.logs.entries("socket closed"))
		client, app := u.tunnel(s, protocol)
		client.sendClose(4002, "bye")
		app.expectMasked(ws.OpClose, string(ws.ClosePayload(4002, "bye")))
		client.rw.Close()
		entries := s.logs.await(t, "socket closed", closed+1)
		if last := entries[len(entries)-1]; last["closed_by"] != string(byClient) || last["close_code"] != 4002.0 {
			t.Errorf("closed by %v with %v, want %v with 4002", last["closed_by"], last["close_code"], byClient)
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
		frame := serverFrame(ws.FinBit|byte(ws.OpText), "in two halves")
		app.Write(frame[:5])
		if _, err := io.ReadFull(client, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(defaultKeepaliveInterval + time.Second)
		if !s.out.Waiting() {
			t.Fatal("no Ping is due")
		}
		start := time.Now()
		app.Write(slices.Concat(frame[5:], serverFrame(ws.FinBit|byte(ws.OpText), ""), frame))
		<-done
		if howEnded(s).by != byWriteTimeout {
			t.Errorf("closed by %s, want %s", howEnded(s).by, byWriteTimeout)
		}
		if took := time.Since(start); took > defaultWriteTimeout*9/8 {
			t.Errorf("that took %v: there is nothing to wait for from a client that has stalled", took)
		}
	})
}
