package e2e

import (
	"net/http"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// Where there is no session, the placeholders are empty rather than sent as they are
// written.
func TestPlaceholdersWithoutSession(t *testing.T) {
	app := wstest.StartApplication(t)
	s := wstest.Start(t, `
		websocket /echo {
			allowed_origins https://example.com
		}
		websocket passthrough {
			allowed_origins https://example.com
		}
		respond /no-socket 204
		respond /echo "<{http.websocket.id}>"
		reverse_proxy `+app.Address()+` {
			header_up X-Socket-Id {http.websocket.id}
			header_up X-Socket "<{http.websocket.mode}{http.websocket.unknown}>"
		}
		handle_errors {
			respond "<{http.websocket.id}> {http.error.status_code}"
		}`)
	for _, protocol := range wstest.Protocols {
		t.Run(protocol, func(t *testing.T) {
			before := len(app.Received())
			s.Fetch(t, protocol, http.MethodGet, "/", "X-Socket-Id", "made up")
			h := app.Received()[before].Header
			if h.Get("X-Socket-Id") != "" || h.Get("X-Socket") != "<>" {
				t.Errorf("the application got %v", h)
			}
			if _, body := s.Fetch(t, protocol, http.MethodGet, "/echo"); body != "<>" {
				t.Errorf("the body is %q", body)
			}
			for _, path := range []string{"/", "/echo"} {
				if body := s.TryDial(t, protocol, path, "Origin", "https://elsewhere.example").Body(); body != "<> 403" {
					t.Errorf("%s: a refused handshake is answered with %q", path, body)
				}
			}
			p := s.Dial(t, protocol, "/", "Origin", "https://example.com")
			defer p.Conn.Close()
			p.Echo(ws.OpText, "hello")
			if id := app.Received()[before+1].Header.Get("X-Socket-Id"); len(id) < 20 {
				t.Errorf("the application got the id %q", id)
			}
		})
	}
}
