package caddywebsocket

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

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
		closed := len(s.Logs.Entries("socket closed"))
		first.CloseNormally()
		second.CloseNormally()
		s.Logs.Await(t, "socket closed", closed+2)
		s.Dial(t, protocol, "/").CloseNormally()
		s.Logs.Await(t, "socket closed", closed+3)
	}
}

// The counts of a place are kept for no longer than somebody counts with them.
func TestPlacesForget(t *testing.T) {
	p := places{counts: limits.counts}
	l := newLimiter(1, 0)
	if err := l.acquire(make(http.Header), "192.0.2.1"); err != nil {
		t.Fatal(err)
	}
	c := p.at("a place")
	l.countTogether(c)
	if p.at("a place") != c || c.open != 1 {
		t.Errorf("%d sockets are counted, want 1", c.open)
	}
	l.release("192.0.2.1")
	runtime.KeepAlive(l)
	l, c = nil, nil
	runtime.GC()
	runtime.GC()
	p.at("another place")
	if _, ok := p.counts["a place"]; ok {
		t.Error("the counts of a place that nobody counts at are kept")
	}
}

// A handler's place stays the same when other sites come and go, and is its own.
func TestPlaces(t *testing.T) {
	names := func(site string) (names []string) {
		t.Helper()
		wstest.Start(t, site)
		for place := range handlersOf(activeContext()) {
			if _, ok := place.handler.(*Handler); ok {
				names = append(names, place.name)
			}
		}
		return names
	}
	one := names("handle /a {\nwebsocket\n}")
	two := names("handle /b {\nwebsocket\n}\nhandle /a {\nwebsocket {\nmax_lifetime 1h\n}\n}")
	if len(one) != 2 || len(two) != 4 {
		t.Fatalf("places %q and %q", one, two)
	}
	found := 0
	for _, a := range one {
		for _, b := range two {
			if a == b {
				found++
			}
		}
	}
	if found != 2 {
		t.Errorf("of the places %q, %d are among %q", one, found, two)
	}
}

func TestInventory(t *testing.T) {
	app := httptest.NewServer(http.NotFoundHandler())
	defer app.Close()
	address := app.Listener.Addr().String()
	for site, want := range map[string]bool{
		"reverse_proxy " + address:                                             false,
		"reverse_proxy localhost:1":                                            true,
		"reverse_proxy {env.APP}":                                              false, // which may be anything
		"reverse_proxy {\ndynamic a localhost 80\n}":                           false,
		"@x host other.example\nhandle @x {\nreverse_proxy " + address + "\n}": false, // the site is there
		"respond 204": true,
	} {
		wstest.Start(t, site)
		s := &session{handler: &Handler{Mode: modePassthrough}, upstream: address, handshake: handshake{host: "localhost"}}
		if got := newInventory(activeContext()).lacks(s); got != want {
			t.Errorf("%q: lacks is %t, want %t", site, got, want)
		}
	}
}
