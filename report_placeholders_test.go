package caddywebsocket

import (
	"net/http"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// Where there is no session, the placeholders are empty rather than sent as they are
// written.
func TestPlaceholdersWithoutSession(t *testing.T) {
	app := startApplication(t)
	s := start(t, `
		websocket /echo {
			allowed_origins https://example.com
		}
		websocket passthrough {
			allowed_origins https://example.com
		}
		respond /no-socket 204
		respond /echo "<{http.websocket.id}>"
		reverse_proxy `+app.address()+` {
			header_up X-Socket-Id {http.websocket.id}
			header_up X-Socket "<{http.websocket.mode}{http.websocket.unknown}>"
		}
		handle_errors {
			respond "<{http.websocket.id}> {http.error.status_code}"
		}`)
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			before := len(app.received())
			s.fetch(t, protocol, http.MethodGet, "/", "X-Socket-Id", "made up")
			h := app.received()[before].Header
			if h.Get("X-Socket-Id") != "" || h.Get("X-Socket") != "<>" {
				t.Errorf("the application got %v", h)
			}
			if _, body := s.fetch(t, protocol, http.MethodGet, "/echo"); body != "<>" {
				t.Errorf("the body is %q", body)
			}
			for _, path := range []string{"/", "/echo"} {
				if body := s.attempt(t, protocol, path, "Origin", "https://elsewhere.example").body(); body != "<> 403" {
					t.Errorf("%s: a refused handshake is answered with %q", path, body)
				}
			}
			p := s.dial(t, protocol, "/", "Origin", "https://example.com")
			defer p.rw.Close()
			p.echo(ws.OpText, "hello")
			if id := app.received()[before+1].Header.Get("X-Socket-Id"); len(id) < 20 {
				t.Errorf("the application got the id %q", id)
			}
		})
	}
}

// They cost other requests no memory beyond the replacer's.
func TestPlaceholdersAllocateNothing(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { noPlaceholder("http.websocket.id") }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
