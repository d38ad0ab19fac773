package caddywebsocket

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/gorilla/websocket"
	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// Other answers than an accepted handshake reach the client as they are.
func TestTunnelRefusedByUpstream(t *testing.T) {
	for _, status := range []int{200, 301, 401, 404, 426, 500} {
		upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Upstream", "yes")
			w.WriteHeader(status)
			fmt.Fprint(w, "no socket")
		}))
		defer upstream.Close()
		s := start(t, "websocket passthrough {\nallowed_origins *\n}\nreverse_proxy "+upstream.Listener.Addr().String())
		for _, protocol := range protocols {
			p := s.attempt(t, protocol, "/")
			if p.res.StatusCode != status || p.res.Header.Get("X-Upstream") != "yes" || p.body() != "no socket" {
				t.Errorf("%s: status %d, want the upstream's %d", protocol, p.res.StatusCode, status)
			}
		}
	}
}

// gorilla's server, behind reverse_proxy, doesn't notice.
func TestTunnelToGorilla(t *testing.T) {
	s := start(t, "websocket passthrough {\nallowed_origins *\n}\nreverse_proxy "+echoUpstream(t))
	conn, _, err := (&websocket.Dialer{EnableCompression: true}).Dial("ws://"+s.plain, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i := range 2000 {
		want := letters(i % 5000)
		if err := conn.WriteMessage(websocket.TextMessage, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := conn.ReadMessage(); err != nil || string(got) != want {
			t.Fatalf("message %d: got %.20q, %v", i, got, err)
		}
	}
}

// upgradingHandler is a Caddy handler that accepts sockets by itself, as gorilla
// does it: it takes the connection over and writes the answer to it.
type upgradingHandler struct{}

func (upgradingHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_upgrade", New: func() caddy.Module { return new(upgradingHandler) }}
}

func (upgradingHandler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	conn, err := new(websocket.Upgrader).Upgrade(w, r, nil)
	if err != nil {
		return nil
	}
	go echoMessages(conn) // as many do
	return nil
}

func init() {
	caddy.RegisterModule(upgradingHandler{})
	httpcaddyfile.RegisterHandlerDirective("test_upgrade", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		return upgradingHandler{}, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("test_upgrade", httpcaddyfile.Before, "respond")
}

func TestTunnelToAnyHandler(t *testing.T) {
	s := start(t, "websocket passthrough {\nallowed_origins *\nkeepalive 100ms 10s\nmax_lifetime 2s\n}\ntest_upgrade")
	for _, protocol := range []string{"http1", "tls"} {
		p := s.dial(t, protocol, "/")
		p.echo(ws.OpText, letters(100_000))
		p.send(ws.OpPong, p.expectPing())
		p.echo(ws.OpText, "still in step")
		p.sendClose(3000, "")
		p.expectCloseAfterPings(3000, "")
		p.expectEnd()
		p.rw.Close()

		p = s.dial(t, protocol, "/")
		p.echo(ws.OpText, "hello")
		p.expectCloseAfterPings(1012, "")
		p.sendClose(1012, "")
		p.expectEnd()
	}
}

// Of messages that come when the client has been sent a Close frame nothing
// passes, and none counts.
func TestTunnelCountsWhatPassed(t *testing.T) {
	onEveryTunnel(t, "", func(t *testing.T, s *server, u *upstream, protocol string) {
		closed := len(s.logs.entries("socket closed"))
		client, app := u.tunnel(s, protocol)
		app.write(serverFrame(ws.FinBit|byte(ws.OpText), "one"))
		client.expect(ws.OpText, "one")
		adminClose()
		client.expectClose(4000, "")
		app.expectMasked(ws.OpClose, string(ws.ClosePayload(4000, "logged out")))
		app.write(serverFrame(ws.FinBit|byte(ws.OpText), "two"), serverFrame(ws.FinBit|byte(ws.OpClose), string(ws.ClosePayload(4000, ""))))
		client.answerClose(4000)
		app.rw.Close()
		client.rw.Close()
		entries := s.logs.await(t, "socket closed", closed+1)
		if got := entries[len(entries)-1]["messages_sent"]; got != 1.0 {
			t.Errorf("%v messages sent, want 1", got)
		}
	})
}
