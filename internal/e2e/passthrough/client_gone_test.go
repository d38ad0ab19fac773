package passthrough

import (
	"io"
	"net"
	"net/http"
	"testing"
	"testing/iotest"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// A lateHandler accepts a handshake, and takes the connection over only when the client
// has gone. Then it has closed its own connection already, as reverse_proxy does.
type lateHandler struct{}

func (lateHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_late", New: func() caddy.Module { return new(lateHandler) }}
}

func (lateHandler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	w.Header().Set("Connection", "Upgrade")
	w.Header().Set("Upgrade", "websocket")
	w.WriteHeader(http.StatusSwitchingProtocols)
	rc := http.NewResponseController(w)
	if err := rc.Flush(); err != nil {
		return err
	}
	<-r.Context().Done()
	conn, _, err := rc.Hijack()
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = io.Copy(conn, iotest.ErrReader(net.ErrClosed))
	return err
}

func init() {
	caddy.RegisterModule(lateHandler{})
	httpcaddyfile.RegisterHandlerDirective("test_late", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		return lateHandler{}, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("test_late", httpcaddyfile.Before, "respond")
}

// A client that goes before the connection has been taken over is who ended the session.
func TestTunnelClientGoneBeforeHijack(t *testing.T) {
	s := wstest.Start(t, "websocket passthrough {\nallowed_origins *\n}\ntest_late")
	for i, protocol := range []string{"http1", "tls"} {
		s.Dial(t, protocol, "/").Conn.Close()
		if e := s.Logs.Await(t, "socket closed", i+1)[i]; e["closed_by"] != "client" || e["close_code"] != 1006.0 {
			t.Errorf("%s: closed by %v with %v, want by client with 1006", protocol, e["closed_by"], e["close_code"])
		}
	}
}
