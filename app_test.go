package caddywebsocket

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// The counts of a place are kept for no longer than somebody counts with them.
func TestPlacesForget(t *testing.T) {
	p := places{counts: limits.counts}
	countAt(t, &p, "a place")
	runtime.GC()
	runtime.GC()
	p.at("another place")
	if _, ok := p.counts["a place"]; ok {
		t.Error("the counts of a place that nobody counts at are kept")
	}
}

// countAt counts a socket at a place for as long as the function runs.
func countAt(t *testing.T, p *places, place string) {
	t.Helper()
	l := newLimiter(1, 0)
	if err := l.acquire(make(http.Header), "192.0.2.1"); err != nil {
		t.Fatal(err)
	}
	l.countTogether(p.at(place))
	if n := p.at(place).open; n != 1 {
		t.Errorf("%d sockets are counted, want 1", n)
	}
	l.release("192.0.2.1")
}

// A handler's place stays the same when other sites come and go, and is its own.
func TestPlaces(t *testing.T) {
	names := func(site string) (names []string) {
		t.Helper()
		wstest.Start(t, site)
		for _, place := range handlersOf(activeContext()) {
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

func activeContext() caddy.Context { return caddy.ActiveContext() }
