package thirdparty

import (
	"net/http"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest/browser"
)

// browserSite is a site with the page and the sockets that it opens, of which
// each case has one. Nothing else is in the access log.
const browserSite = `
	log
	@page not path /ws/*
	log_skip @page
	websocket /ws/echo {
		allowed_origins self
	}
	websocket /ws/chat {
		subprotocols a b
	}
	websocket /ws/compressed {
		compression on
	}
	websocket /ws/takeover {
		compression on takeover
	}
	websocket /ws/elsewhere {
		allowed_origins https://example.com
	}
	websocket /ws/limited {
		max_message_size 1KiB
	}
	root ../../../testdata/browser
	file_server
`

func TestBrowsers(t *testing.T) {
	t.Parallel()
	for _, b := range browser.All {
		t.Run(b.Name, func(t *testing.T) {
			t.Parallel()
			tab := b.New(t)
			for _, c := range []struct {
				name, scheme string
				address      func(*wstest.Server) string
				// What the browser's handshakes are.
				proto, method string
				status        float64
			}{
				{"http1", "http", func(s *wstest.Server) string { return s.Plain }, "HTTP/1.1", http.MethodGet, 101},
				{"http2", "https", func(s *wstest.Server) string { return s.Secure }, "HTTP/2.0", http.MethodConnect, 200},
			} {
				t.Run(c.name, func(t *testing.T) {
					s := wstest.StartBeside(t, "", browserSite)
					tab.Open(t, c.scheme+"://"+c.address(&s.Server)+"/page.html")
					var results []struct{ Name, Error string }
					tab.Eval(t, "run()", &results)
					if len(results) == 0 {
						t.Fatal("the page has no cases")
					}
					for _, r := range results {
						if r.Error != "" {
							t.Errorf("%s: %s", r.Name, r.Error)
						}
					}
					for _, e := range s.Logs.Await(t, "handled request", len(results)) {
						request := e["request"].(map[string]any)
						status := c.status
						if request["uri"] == "/ws/elsewhere" {
							status = http.StatusForbidden
						}
						if request["proto"] != c.proto || request["method"] != c.method || e["status"] != status {
							t.Errorf("handshake at %v is %v on %v with status %v, want %v on %v with status %v",
								request["uri"], request["method"], request["proto"], e["status"], c.method, c.proto, status)
						}
					}
				})
			}
		})
	}
}
