package caddywebsocket

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// A handler's place stays the same when other sites come and go, and is its own.
func TestPlaces(t *testing.T) {
	names := func(site string) (names []string) {
		t.Helper()
		wstest.Start(t, site)
		for _, place := range handlersOf(activeContext()) {
			if _, ok := place.Handler.(*Handler); ok {
				names = append(names, place.Name)
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
		s := &session{handler: &Handler{Mode: modePassthrough}, upstream: address, handshake: requestInfo{host: "localhost"}}
		if got := newInventory(activeContext()).lacks(s); got != want {
			t.Errorf("%q: lacks is %t, want %t", site, got, want)
		}
	}
}

func activeContext() caddy.Context { return caddy.ActiveContext() }
