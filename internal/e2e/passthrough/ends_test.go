package passthrough

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

func TestTunnelDeadClient(t *testing.T) {
	wstest.OnEveryTunnel(t, "keepalive 50ms 200ms", func(t *testing.T, s *wstest.Server, u *wstest.Upstream, protocol string) {
		client, app := u.Tunnel(s, protocol)
		app.ExpectMasked(ws.OpClose, string(ws.ClosePayload(1001, "")))
		app.Conn.Close()
		client.ExpectEndAfterPings()
	})
}

func TestTunnelUpstreamBreaks(t *testing.T) {
	wstest.OnEveryTunnel(t, "", func(t *testing.T, s *wstest.Server, u *wstest.Upstream, protocol string) {
		client, app := u.Tunnel(s, protocol)
		app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpText), "last words"))
		client.Expect(ws.OpText, "last words")
		app.Conn.Close()
		client.ExpectClose(1012, "")
		client.AnswerClose(1012)
		client.ExpectEnd()
	})
}

func TestTunnelLifetime(t *testing.T) {
	wstest.OnEveryTunnel(t, "max_lifetime 200ms", func(t *testing.T, s *wstest.Server, u *wstest.Upstream, protocol string) {
		client, app := u.Tunnel(s, protocol)
		client.ExpectClose(1012, "")
		app.ExpectMasked(ws.OpClose, string(ws.ClosePayload(1001, "")))
		app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpClose), string(ws.ClosePayload(1001, ""))))
		client.AnswerClose(1012)
		app.Conn.Close()
		client.ExpectEnd()
	})
}

// The Close frame that reverse_proxy writes when its config is replaced never
// lands within a frame.
func TestTunnelReload(t *testing.T) {
	u := wstest.ListenUpstream(t)
	site := "websocket passthrough {\nallowed_origins *\n}\nrespond /no-socket 204\nreverse_proxy " + u.Addr().String() + " {\nstream_close_delay 1ms\n}"
	s := wstest.Start(t, site)
	for i, protocol := range wstest.Protocols {
		t.Run(protocol, func(t *testing.T) {
			u := u.For(t)
			idle, app := u.Tunnel(s, protocol)
			defer app.Conn.Close()
			// reverse_proxy knows of a connection from when it copies.
			idle.Send(ws.OpText, "hello")
			app.ExpectMasked(ws.OpText, "hello")
			busy, app := u.Tunnel(s, protocol)
			defer app.Conn.Close()
			frame := wstest.ServerFrame(ws.FinBit|byte(ws.OpBinary), strings.Repeat("x", 1000))
			app.WriteRaw(frame[:500])
			if _, err := io.ReadFull(busy.Reader, make([]byte, 500)); err != nil {
				t.Fatal(err)
			}
			s.Reload(t, "", fmt.Sprintf("header X-Config %d\n%s", i, site))
			idle.ExpectClose(1012, "")
			idle.AnswerClose(1012)
			idle.ExpectEnd()
			busy.SetReadDeadline(time.Now().Add(wstest.Timeout))
			if rest, _ := io.ReadAll(busy.Reader); len(rest) > 0 {
				t.Errorf("%x came within a frame", rest)
			}
		})
	}
}

func TestTunnelSurvivesReload(t *testing.T) {
	u := wstest.ListenUpstream(t)
	site := "websocket passthrough {\nallowed_origins *\n}\nrespond /no-socket 204\nreverse_proxy " + u.Addr().String() + " {\nstream_close_delay 1h\n}"
	s := wstest.Start(t, site)
	for i, protocol := range wstest.Protocols {
		t.Run(protocol, func(t *testing.T) {
			u := u.For(t)
			client, app := u.Tunnel(s, protocol)
			frame := wstest.ServerFrame(ws.FinBit|byte(ws.OpText), "in two halves")
			app.WriteRaw(frame[:5])
			s.Reload(t, "", fmt.Sprintf("header X-Config %d\n%s", i, site))
			app.WriteRaw(frame[5:])
			client.Expect(ws.OpText, "in two halves")
			client.Send(ws.OpText, "hello")
			app.ExpectMasked(ws.OpText, "hello")
			app.Conn.Close()
			client.Conn.Close()
		})
	}
}

// A client that stops in the middle of a frame, or that sends what is no frame,
// holds up no end.
func TestTunnelEndsWithinFrame(t *testing.T) {
	t.Parallel()
	s := wstest.OpenTunnels(t, "max_lifetime 500ms", func(s *wstest.Server, u *wstest.Upstream, protocol string) {
		for _, sent := range [][]byte{
			wstest.ClientFrame(ws.FinBit|byte(ws.OpText), []byte("never finished"))[:10],
			{0x83, 0x80, 1, 2, 3, 4, 5}, // no frame
		} {
			client, app := u.Tunnel(s, protocol)
			client.WriteRaw(sent)
			if _, err := io.ReadFull(app.Reader, make([]byte, len(sent))); err != nil {
				t.Fatal(err)
			}
			client.ExpectClose(1012, "")
		}
	})
	s.AwaitClosed(t, 2*len(wstest.Protocols), "lifetime")
}

// An application that neither reads nor writes is let go when its socket ends.
func TestTunnelStalledUpstream(t *testing.T) {
	t.Parallel()
	s := wstest.OpenTunnels(t, "max_lifetime 300ms", func(s *wstest.Server, u *wstest.Upstream, protocol string) {
		client, _ := u.Tunnel(s, protocol)
		t.Cleanup(func() { client.Conn.Close() })
		go wstest.Stall(client, wstest.ClientFrame(ws.FinBit|byte(ws.OpBinary), make([]byte, 1<<20)))
	})
	s.AwaitClosed(t, len(wstest.Protocols), "lifetime")
}

// So is a client that doesn't answer the application's Close frame.
func TestTunnelClientIgnoresClose(t *testing.T) {
	t.Parallel()
	s := wstest.OpenTunnels(t, "keepalive off", func(s *wstest.Server, u *wstest.Upstream, protocol string) {
		client, app := u.Tunnel(s, protocol)
		app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpClose), string(ws.ClosePayload(4001, "go"))))
		app.Conn.Close()
		client.ExpectClose(4001, "go")
	})
	s.AwaitClosed(t, len(wstest.Protocols), "upstream")
}

// A client that is gone is gone for the application, too, before any timeout.
func TestTunnelClientGone(t *testing.T) {
	t.Parallel()
	var apps []*wstest.Peer
	s := wstest.OpenTunnels(t, "keepalive off", func(s *wstest.Server, u *wstest.Upstream, protocol string) {
		client, app := u.Tunnel(s, protocol)
		client.Send(ws.OpText, "hello")
		app.ExpectMasked(ws.OpText, "hello")
		client.Conn.Close()
		apps = append(apps, app)
	})
	for _, app := range apps {
		app.SetReadDeadline(time.Now().Add(wstest.Timeout))
		if rest, err := io.ReadAll(app.Reader); len(rest) > 0 || err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("got %q, %v, want the end", rest, err)
		}
	}
	s.AwaitClosed(t, len(wstest.Protocols), "client")
}

func TestExitWithTunnels(t *testing.T) {
	t.Parallel()
	u := wstest.ListenUpstream(t)
	p := wstest.StartProcess(t, "", "websocket passthrough {\nallowed_origins *\n}\nrespond /no-socket 204\nreverse_proxy "+u.Addr().String())
	for _, protocol := range wstest.Protocols {
		client, app := u.Tunnel(&p.Server, protocol)
		client.WriteRaw(wstest.ClientFrame(ws.FinBit|byte(ws.OpText), []byte("never finished"))[:10])
		defer app.Conn.Close()
		_, app = u.Tunnel(&p.Server, protocol)
		defer app.Conn.Close()
	}
	p.Terminate(t)
	p.ExpectExit(t)
}

// A client that closed and went leaves no application behind that doesn't care.
func TestTunnelUpstreamIgnoresClose(t *testing.T) {
	t.Parallel()
	s := wstest.OpenTunnels(t, "keepalive off", func(s *wstest.Server, u *wstest.Upstream, protocol string) {
		client, app := u.Tunnel(s, protocol)
		client.SendClose(4002, "bye")
		app.ExpectMasked(ws.OpClose, string(ws.ClosePayload(4002, "bye")))
		client.Conn.Close()
	})
	for _, e := range s.AwaitClosed(t, len(wstest.Protocols), "client") {
		if e["close_code"] != 4002.0 {
			t.Errorf("closed with %v, want 4002", e["close_code"])
		}
	}
}
