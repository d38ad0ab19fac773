package passthrough

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// truncated are beginnings of frames of which nothing has passed yet.
var truncated = map[string][]byte{
	"nothing":          nil,
	"first byte":       {ws.FinBit | byte(ws.OpText)},
	"16-bit length":    {ws.FinBit | byte(ws.OpBinary), 126, 1},
	"64-bit length":    {ws.FinBit | byte(ws.OpBinary), 127, 0, 0, 0, 0, 0, 0, 1},
	"Close, no length": {ws.FinBit | byte(ws.OpClose)},
	"Close, half code": {ws.FinBit | byte(ws.OpClose), 2, 3},
	"Close, no reason": {ws.FinBit | byte(ws.OpClose), 5, 3, 0xe8},
}

// An application that dies within the header of a frame, or within its Close frame,
// leaves nothing of that to the client, who gets a Close frame instead.
func TestTunnelUpstreamBreaksWithinHeader(t *testing.T) {
	wstest.OnEveryTunnel(t, "", func(t *testing.T, s *wstest.Server, u *wstest.Upstream, protocol string) {
		for name, bytes := range truncated {
			for _, first := range []string{"", "last words"} {
				t.Run(name+", after "+first, func(t *testing.T) {
					client, app := u.For(t).Tunnel(s, protocol)
					client.T = t
					if first != "" {
						app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpText), first))
						client.Expect(ws.OpText, first)
					}
					if bytes != nil {
						app.WriteRaw(bytes)
					}
					app.Conn.Close()
					client.ExpectClose(1012, "")
					client.AnswerClose(1012)
					client.ExpectEnd()
				})
			}
		}
	})
}

// A shortPage answers all with one byte that could begin a frame.
type shortPage struct{}

func (shortPage) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_short_page", New: func() caddy.Module { return new(shortPage) }}
}

func (shortPage) ServeHTTP(w http.ResponseWriter, _ *http.Request, _ caddyhttp.Handler) error {
	w.Header().Set("Content-Type", "application/octet-stream")
	_, err := w.(io.ReaderFrom).ReadFrom(strings.NewReader("\x81"))
	return err
}

func init() {
	caddy.RegisterModule(shortPage{})
	httpcaddyfile.RegisterHandlerDirective("test_short_page", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		return shortPage{}, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("test_short_page", httpcaddyfile.Before, "respond")
}

// The same bytes at the end of what is no socket are the client's.
func TestTunnelPageEndsLikeAHeader(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = shortPage{}.ServeHTTP(w, r, nil)
	}))
	t.Cleanup(app.Close)
	for _, next := range []string{"test_short_page", "reverse_proxy " + app.Listener.Addr().String()} {
		for _, option := range []string{"", "close_code upstream none"} {
			s := wstest.Start(t, "websocket passthrough {\nallowed_origins *\n"+option+"\n}\nrespond /no-socket 204\n"+next)
			for _, protocol := range wstest.Protocols {
				t.Run(protocol+" "+next+" "+option, func(t *testing.T) {
					p := s.TryDial(t, protocol, "/page")
					if body := p.Body(); body != "\x81" {
						t.Errorf("the body is %q, want one byte", body)
					}
				})
			}
		}
	}
}
