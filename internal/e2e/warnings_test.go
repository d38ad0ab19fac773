package e2e

import (
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// A warning is logged once for a site on HTTP and HTTPS, and not again when a config is
// loaded that has it, too.
func TestWarningsAreLoggedOnce(t *testing.T) {
	const (
		anyOrigin = "pages of any origin may open sockets with their visitors' cookies; " +
			"name the origins in allowed_origins, or write '*' there if that is meant"
		nonBrowser = "browsers never send this origin; if pages are to connect, list the one that browsers send, too"
		open       = "websocket /open passthrough\n"
		listed     = "websocket /open passthrough {\nallowed_origins self\n}\n"
		wss        = "websocket /wss {\nallowed_origins wss://example.com wss://example.org\n}\n"
	)
	s := wstest.Start(t, open+wss)
	for _, c := range []struct {
		why, site              string
		anyOrigins, nonBrowser int // in all
	}{
		{"", "", 1, 2},
		{"nothing new", "header X-Config new\n" + open + wss, 1, 2},
		{"the origins are listed", listed + wss, 1, 2},
		{"and are not any more", open + wss, 2, 2},
		{"another handler", open + wss + "websocket /other passthrough {\nkeepalive 10s\n}\n", 3, 2},
		{"nothing at all", "respond hello", 3, 2},
		{"and all again", open + wss, 4, 4},
	} {
		if c.site != "" {
			s.Reload(t, "", c.site)
		}
		if n := len(s.Logs.Entries(anyOrigin)); n != c.anyOrigins {
			t.Errorf("%s: %d warnings of any origin, want %d", c.why, n, c.anyOrigins)
		}
		if n := len(s.Logs.Entries(nonBrowser)); n != c.nonBrowser {
			t.Errorf("%s: %d warnings of origins that browsers don't send, want %d", c.why, n, c.nonBrowser)
		}
	}
}

func TestWarnsOfRatesWithoutKeepalive(t *testing.T) {
	s := wstest.Start(t, "websocket /a {\nkeepalive off\nmessage_rate 10 1s\n}\nwebsocket /b {\nkeepalive off\nmessage_rate 10 1s close\n}\nwebsocket /c {\nbyte_rate 1KiB 1s\n}")
	const warning = "without keepalive, clients that leave while message_rate or byte_rate holds them back are not noticed"
	if n := len(s.Logs.Entries(warning)); n != 1 {
		t.Errorf("%d warnings, want 1", n)
	}
}
