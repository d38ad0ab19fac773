package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// loadBroken loads a config that fails when its apps start.
func loadBroken(t *testing.T, s *wstest.Server, site string) error {
	t.Helper()
	var cfg map[string]any
	if err := json.Unmarshal(wstest.Config(t, s.LogName, "", site), &cfg); err != nil {
		t.Fatal(err)
	}
	servers := cfg["apps"].(map[string]any)["http"].(map[string]any)["servers"].(map[string]any)
	servers["broken"] = map[string]any{"listen": []string{"192.0.2.1:1"}}
	return caddy.Load(wstest.JSON(cfg), true)
}

// A passthrough socket survives reloads on every protocol with nothing else in the
// config, and goes on to be supervised.
func TestProxiedSocketsSurviveReloads(t *testing.T) {
	u := wstest.ListenUpstream(t)
	sites := map[string]string{
		"plain":  "websocket passthrough\nrespond /no-socket 204\nreverse_proxy %s",
		"handle": "respond /no-socket 204\nhandle / {\nwebsocket passthrough\nreverse_proxy %s\n}",
		"path":   "handle_path /* {\nroute {\nrespond /no-socket 204\nwebsocket passthrough\nroute {\nreverse_proxy %s\n}\n}\n}",
		"errors": "respond /no-socket 204\nerror / 404\nhandle_errors {\nwebsocket passthrough\nreverse_proxy %s\n}",
	}
	for name, site := range sites {
		t.Run(name, func(t *testing.T) {
			site := fmt.Sprintf(site, u.Addr())
			s := wstest.Start(t, site)
			if n := len(s.Logs.Entries("proxied WebSockets survive config reloads")); n != 1 {
				t.Errorf("%d entries say that sockets survive, want 1", n)
			}
			type socket struct{ client, app *wstest.Peer }
			var open []socket
			for _, protocol := range wstest.Protocols {
				client, app := u.For(t).Tunnel(s, protocol)
				client.Send(ws.OpText, "before")
				app.ExpectMasked(ws.OpText, "before")
				open = append(open, socket{client, app})
			}
			for i := range 5 {
				s.Reload(t, "", fmt.Sprintf("header X-Config %d\n%s", i, site))
				for _, o := range open {
					o.client.Send(ws.OpText, fmt.Sprint("reload ", i))
					o.app.ExpectMasked(ws.OpText, fmt.Sprint("reload ", i))
					o.app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpText), "answer"))
					o.client.Expect(ws.OpText, "answer")
				}
			}
			for _, o := range open {
				o.client.SendClose(1000, "bye")
				o.app.ExpectMasked(ws.OpClose, string(ws.ClosePayload(1000, "bye")))
				o.app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpClose), string(ws.ClosePayload(1000, "bye"))))
				o.app.Conn.Close()
				o.client.ExpectClose(1000, "bye")
				o.client.ExpectEnd()
			}
		})
	}
}

// A written stream_close_delay wins.
func TestWrittenDelayWins(t *testing.T) {
	u := wstest.ListenUpstream(t)
	site := "websocket passthrough\nrespond /no-socket 204\nreverse_proxy " + u.Addr().String() + " {\nstream_close_delay 50ms\n}"
	s := wstest.Start(t, site)
	for i, protocol := range wstest.Protocols {
		client, app := u.For(t).Tunnel(s, protocol)
		client.Send(ws.OpText, "before")
		app.ExpectMasked(ws.OpText, "before")
		s.Reload(t, "", fmt.Sprintf("header X-Config %d\n%s", i, site))
		client.ExpectCloseAfterPings(1012, "")
		client.AnswerClose(1012)
		app.Conn.Close()
		client.ExpectEnd()
	}
}

// Sockets whose upstream or site is not in the new config are closed, others are
// not.
func TestSocketsOfWhatIsGone(t *testing.T) {
	gone, kept := wstest.ListenUpstream(t), wstest.ListenUpstream(t)
	site := func(up *wstest.Upstream) string {
		return "handle " + map[bool]string{true: "/gone", false: "/kept"}[up == gone] + " {\nwebsocket passthrough {\nclose_delay 50ms\n}\nreverse_proxy " + up.Addr().String() + "\n}\n"
	}
	const rest = "respond /no-socket 204\n"
	s := wstest.Start(t, rest+site(gone)+site(kept))
	type socket struct{ gone, goneApp, kept, keptApp *wstest.Peer }
	var open []socket
	for _, protocol := range wstest.Protocols {
		var o socket
		accepted := make(chan *wstest.Peer)
		go func() { accepted <- gone.AcceptSocket() }()
		o.gone = s.Dial(t, protocol, "/gone")
		o.goneApp = <-accepted
		go func() { accepted <- kept.AcceptSocket() }()
		o.kept = s.Dial(t, protocol, "/kept")
		o.keptApp = <-accepted
		open = append(open, o)
	}
	// A config that can't be loaded leaves all as it is.
	if err := loadBroken(t, s, rest); err == nil {
		t.Fatal("a broken config was loaded")
	}
	for _, o := range open {
		o.gone.Send(ws.OpText, "still there")
		o.goneApp.ExpectMasked(ws.OpText, "still there")
	}
	s.Reload(t, "", rest+strings.ReplaceAll(site(kept), "close_delay 50ms", "max_lifetime 1h"))
	for _, o := range open {
		o.gone.ExpectClose(1012, "")
		o.goneApp.ExpectMasked(ws.OpClose, string(ws.ClosePayload(1001, "")))
		o.gone.AnswerClose(1012)
		o.goneApp.Conn.Close()
		o.gone.ExpectEnd()
	}
	s.Reload(t, "", "header X-Config 2\n"+rest+"reverse_proxy "+kept.Addr().String())
	for _, o := range open {
		// close_delay ends these as it always did.
		o.kept.ExpectCloseAfterPings(1012, "")
		o.kept.AnswerClose(1012)
		o.keptApp.Conn.Close()
	}
}

// max_connections counts the sockets of earlier configs of the same handler.
func TestLimitsHoldAcrossReloads(t *testing.T) {
	const site = "websocket {\nmax_connections 10 2\n}"
	s := wstest.Start(t, site)
	for _, protocol := range wstest.Protocols {
		first, second := s.Dial(t, protocol, "/"), s.Dial(t, protocol, "/")
		for i := range 3 {
			s.Reload(t, "", fmt.Sprintf("header X-Config %s-%d\n%s", protocol, i, site))
			if p := s.TryDial(t, protocol, "/"); p.Response.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("%s: status %d after %d reloads, want 503", protocol, p.Response.StatusCode, i+1)
			}
		}
		if err := loadBroken(t, s, "websocket {\nmax_connections 10\n}"); err == nil {
			t.Fatal("a broken config is loaded")
		}
		if p := s.TryDial(t, protocol, "/"); p.Response.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s: status %d after a reload that failed, want 503", protocol, p.Response.StatusCode)
		}
		closed := len(s.Logs.Entries("socket closed"))
		first.CloseNormally()
		second.CloseNormally()
		s.Logs.Await(t, "socket closed", closed+2)
		s.Dial(t, protocol, "/").CloseNormally()
		s.Logs.Await(t, "socket closed", closed+3)
	}
}

func TestSocketsSurviveReloads(t *testing.T) {
	s := wstest.Start(t, "websocket\nheader X-Config 0")
	peers := s.DialAll(t)
	for i := range 20 {
		s.Reload(t, "", fmt.Sprintf("websocket\nheader X-Config %d", i+1))
		for _, p := range peers {
			p.Echo(ws.OpText, "still there")
		}
	}
	for _, p := range peers {
		p.CloseNormally()
	}
	p := s.Dial(t, "http1", "/")
	if got := p.Response.Header.Get("X-Config"); got != "20" {
		t.Errorf("a new socket has config %s, want 20", got)
	}
	p.CloseNormally()
}

func TestCloseDelayAfterReload(t *testing.T) {
	s := wstest.Start(t, "websocket {\nclose_delay 100ms\n}")
	peers := s.DialAll(t)
	wait := wstest.Follow(peers, func(p *wstest.Peer) { p.ExpectClosing(1012, "") })
	s.Reload(t, "", "websocket {\nkeepalive 5m\n}")
	wait()
}
