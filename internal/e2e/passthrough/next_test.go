package passthrough

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
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
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
		s := wstest.Start(t, "websocket passthrough {\nallowed_origins *\n}\nreverse_proxy "+upstream.Listener.Addr().String())
		for _, protocol := range wstest.Protocols {
			p := s.TryDial(t, protocol, "/")
			if p.Response.StatusCode != status || p.Response.Header.Get("X-Upstream") != "yes" || p.Body() != "no socket" {
				t.Errorf("%s: status %d, want the upstream's %d", protocol, p.Response.StatusCode, status)
			}
		}
	}
}

// gorilla's server, behind reverse_proxy, doesn't notice.
func TestTunnelToGorilla(t *testing.T) {
	s := wstest.Start(t, "websocket passthrough {\nallowed_origins *\n}\nreverse_proxy "+wstest.EchoUpstream(t))
	conn, _, err := (&websocket.Dialer{EnableCompression: true}).Dial("ws://"+s.Plain, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i := range 2000 {
		want := wstest.Letters(i % 5000)
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
	go wstest.EchoMessages(conn) // as many do
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
	s := wstest.Start(t, "websocket /short passthrough {\nallowed_origins *\nmax_lifetime 200ms\n}\n"+
		"websocket /long passthrough {\nallowed_origins *\nkeepalive 100ms 10s\n}\ntest_upgrade")
	for _, protocol := range []string{"http1", "tls"} {
		p := s.Dial(t, protocol, "/long")
		p.Echo(ws.OpText, wstest.Letters(100_000))
		p.Send(ws.OpPong, p.ExpectPing())
		p.Echo(ws.OpText, "still in step")
		p.SendClose(3000, "")
		p.ExpectCloseAfterPings(3000, "")
		p.ExpectEnd()
		p.Conn.Close()

		p = s.Dial(t, protocol, "/short")
		p.ExpectClosing(1012, "")
	}
}

// Of messages that come when the client has been sent a Close frame nothing
// passes, and none counts.
func TestTunnelCountsWhatPassed(t *testing.T) {
	s := wstest.OnEveryTunnel(t, "", func(t *testing.T, s *wstest.Server, u *wstest.Upstream, protocol string) {
		client, app := u.Tunnel(s, protocol)
		app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpText), "one"))
		client.Expect(ws.OpText, "one")
		wstest.CloseSessions(t, "?upstream="+u.Addr().String()+"&code=4000&reason=logged+out")
		client.ExpectClose(4000, "")
		app.ExpectMasked(ws.OpClose, string(ws.ClosePayload(4000, "logged out")))
		app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpText), "two"), wstest.ServerFrame(ws.FinBit|byte(ws.OpClose), string(ws.ClosePayload(4000, ""))))
		client.AnswerClose(4000)
		app.Conn.Close()
		client.Conn.Close()
	})
	for _, e := range s.Logs.Await(t, "socket closed", len(wstest.Protocols)) {
		if got := e["messages_sent"]; got != 1.0 {
			t.Errorf("%v messages sent, want 1", got)
		}
	}
}
