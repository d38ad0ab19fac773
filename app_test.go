package caddywebsocket

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// A passthrough socket survives reloads on every protocol with nothing else in the
// config, and goes on to be supervised.
func TestProxiedSocketsSurviveReloads(t *testing.T) {
	u := listenUpstream(t)
	sites := map[string]string{
		"plain":  "websocket passthrough\nrespond /no-socket 204\nreverse_proxy %s",
		"handle": "respond /no-socket 204\nhandle / {\nwebsocket passthrough\nreverse_proxy %s\n}",
		"path":   "handle_path /* {\nroute {\nrespond /no-socket 204\nwebsocket passthrough\nroute {\nreverse_proxy %s\n}\n}\n}",
		"errors": "respond /no-socket 204\nerror / 404\nhandle_errors {\nwebsocket passthrough\nreverse_proxy %s\n}",
	}
	for name, site := range sites {
		t.Run(name, func(t *testing.T) {
			site := fmt.Sprintf(site, u.Addr())
			s := start(t, site)
			if n := len(s.logs.entries("proxied WebSockets survive config reloads")); n != 1 {
				t.Errorf("%d entries say that sockets survive, want 1", n)
			}
			type socket struct{ client, app *peer }
			var open []socket
			for _, protocol := range protocols {
				client, app := (&upstream{u.Listener, t}).tunnel(s, protocol)
				client.send(ws.OpText, "before")
				app.expectMasked(ws.OpText, "before")
				open = append(open, socket{client, app})
			}
			for i := range 5 {
				s.reload(t, "", fmt.Sprintf("header X-Config %d\n%s", i, site))
				for _, o := range open {
					o.client.send(ws.OpText, fmt.Sprint("reload ", i))
					o.app.expectMasked(ws.OpText, fmt.Sprint("reload ", i))
					o.app.write(serverFrame(ws.FinBit|byte(ws.OpText), "answer"))
					o.client.expect(ws.OpText, "answer")
				}
			}
			for _, o := range open {
				o.client.sendClose(1000, "bye")
				o.app.expectMasked(ws.OpClose, string(ws.ClosePayload(1000, "bye")))
				o.app.write(serverFrame(ws.FinBit|byte(ws.OpClose), string(ws.ClosePayload(1000, "bye"))))
				o.app.rw.Close()
				o.client.expectClose(1000, "bye")
				o.client.expectEnd()
			}
		})
	}
}

// A written stream_close_delay wins.
func TestWrittenDelayWins(t *testing.T) {
	u := listenUpstream(t)
	site := "websocket passthrough\nrespond /no-socket 204\nreverse_proxy " + u.Addr().String() + " {\nstream_close_delay 50ms\n}"
	s := start(t, site)
	for i, protocol := range protocols {
		client, app := (&upstream{u.Listener, t}).tunnel(s, protocol)
		client.send(ws.OpText, "before")
		app.expectMasked(ws.OpText, "before")
		s.reload(t, "", fmt.Sprintf("header X-Config %d\n%s", i, site))
		client.expectCloseAfterPings(1012, "")
		client.answerClose(1012)
		app.rw.Close()
		client.expectEnd()
	}
}

// Sockets whose upstream or site is not in the new config are closed, others are
// not.
func TestSocketsOfWhatIsGone(t *testing.T) {
	gone, kept := listenUpstream(t), listenUpstream(t)
	site := func(up *upstream) string {
		return "handle " + map[bool]string{true: "/gone", false: "/kept"}[up == gone] + " {\nwebsocket passthrough {\nclose_delay 50ms\n}\nreverse_proxy " + up.Addr().String() + "\n}\n"
	}
	const rest = "respond /no-socket 204\n"
	s := start(t, rest+site(gone)+site(kept))
	type socket struct{ gone, goneApp, kept, keptApp *peer }
	var open []socket
	for _, protocol := range protocols {
		var o socket
		accepted := make(chan *peer)
		go func() { accepted <- gone.accept() }()
		o.gone = s.dial(t, protocol, "/gone")
		o.goneApp = <-accepted
		go func() { accepted <- kept.accept() }()
		o.kept = s.dial(t, protocol, "/kept")
		o.keptApp = <-accepted
		open = append(open, o)
	}
	// A config that can't be loaded leaves all as it is.
	if err := loadBroken(t, s, rest); err == nil {
		t.Fatal("a broken config was loaded")
	}
	for _, o := range open {
		o.gone.send(ws.OpText, "still there")
		o.goneApp.expectMasked(ws.OpText, "still there")
	}
	s.reload(t, "", rest+strings.ReplaceAll(site(kept), "close_delay 50ms", "max_lifetime 1h"))
	for _, o := range open {
		o.gone.expectClose(1012, "")
		o.goneApp.expectMasked(ws.OpClose, string(ws.ClosePayload(1001, "")))
		o.gone.answerClose(1012)
		o.goneApp.rw.Close()
		o.gone.expectEnd()
	}
	s.reload(t, "", "header X-Config 2\n"+rest+"reverse_proxy "+kept.Addr().String())
	for _, o := range open {
		// close_delay ends these as it always did.
		o.kept.expectCloseAfterPings(1012, "")
		o.kept.answerClose(1012)
		o.keptApp.rw.Close()
	}
}

// max_connections counts the sockets of earlier configs of the same handler.
func TestLimitsHoldAcrossReloads(t *testing.T) {
	const site = "websocket {\nmax_connections 10 2\n}"
	s := start(t, site)
	for _, protocol := range protocols {
		first, second := s.dial(t, protocol, "/"), s.dial(t, protocol, "/")
		for i := range 3 {
			s.reload(t, "", fmt.Sprintf("header X-Config %s-%d\n%s", protocol, i, site))
			if p := s.attempt(t, protocol, "/"); p.res.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("%s: status %d after %d reloads, want 503", protocol, p.res.StatusCode, i+1)
			}
		}
		closed := len(s.logs.entries("socket closed"))
		first.bye()
		second.bye()
		s.logs.await(t, "socket closed", closed+2)
		s.dial(t, protocol, "/").bye()
		s.logs.await(t, "socket closed", closed+3)
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
		start(t, site)
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
		start(t, site)
		s := &session{handler: &Handler{Mode: modePassthrough}, upstream: address, handshake: handshake{host: "localhost"}}
		if got := newInventory(activeContext()).lacks(s); got != want {
			t.Errorf("%q: lacks is %t, want %t", site, got, want)
		}
	}
}
