package caddywebsocket

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// connectProtocol returns the protocol that an Extended CONNECT (RFC 8441 §4,
// RFC 9220 §3) asks for. Go's HTTP/2 server leaves it among the header fields,
// whatever the method is, and quic-go puts it in the place of the HTTP version.
func connectProtocol(r *http.Request) (protocol string, ok bool) {
	switch r.ProtoMajor {
	case 2:
		if values := r.Header[":protocol"]; len(values) > 0 {
			return values[0], true
		}
	case 3:
		if r.Method == http.MethodConnect && r.Proto != "HTTP/3.0" {
			return r.Proto, true
		}
	}
	return "", false
}

// checkConnect refuses an Extended CONNECT for another protocol than WebSocket, and
// a request that has :protocol with another method. No handler of Caddy's can serve
// either: on HTTP/2 reverse_proxy takes it for a failure of the upstream, and on
// HTTP/3 it sends the upstream a CONNECT with the client's bytes behind it.
func checkConnect(r *http.Request) error {
	protocol, ok := connectProtocol(r)
	switch {
	case !ok:
		return nil
	case r.Method != http.MethodConnect:
		return refusal(http.StatusBadRequest, "method is %s, not CONNECT, with :protocol %q", r.Method, protocol)
	case protocol != "websocket":
		return refusal(http.StatusNotImplemented, "protocol is %q, not websocket", protocol) // RFC 9220 §3
	}
	return nil
}

// hasContent reports whether a handshake has, or announces, content.
func hasContent(r *http.Request) bool {
	if r.ProtoMajor == 1 {
		return r.ContentLength != 0
	}
	// An Extended CONNECT must not have a length, not even 0, which on HTTP/2 it also
	// has when its stream ended with the header.
	return r.ContentLength >= 0 || r.Context().Value(lengthCtxKey) != nil
}

// lengthCtxKey is where a connectGuard leaves the length that a handshake had.
const lengthCtxKey caddy.CtxKey = "websocket_connect_length"

// A connectGuard makes HTTP/2 safe for all sites of a server once Extended
// CONNECT is turned on, which Go can do only for the whole process.
//
// It refuses what checkConnect does before any handler sees it, where Go would
// reset the stream with Extended CONNECT off. Handshakes pass without their
// length, for which reverse_proxy would count a failure or answer with status
// 101; that there was one stays in the context, for Handler to refuse them.
type connectGuard struct {
	http.Handler
	logger *zap.Logger
}

func (g *connectGuard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 2 {
		if err := checkConnect(r); err != nil {
			if c := g.logger.Check(zapcore.DebugLevel, "extended CONNECT refused"); c != nil {
				c.Write(zap.String("remote_addr", r.RemoteAddr), zap.String("host", r.Host), zap.Error(err))
			}
			refused, _ := errors.AsType[caddyhttp.HandlerError](err)
			w.WriteHeader(refused.StatusCode)
			return
		}
		if _, ok := connectProtocol(r); ok && r.ContentLength >= 0 {
			r = r.WithContext(context.WithValue(r.Context(), lengthCtxKey, r.ContentLength))
			r.ContentLength = -1
			r.Header.Del("Content-Length")
		}
	}
	g.Handler.ServeHTTP(w, r)
}

// guarded are the HTTP apps whose servers are guarded.
var guarded sync.Map

// guardServers puts a connectGuard in front of all servers of the config, not
// only of the one that has the handler, and watches their connections.
func (h *Handler) guardServers() {
	app := h.httpApp()
	if app == nil {
		return
	}
	if _, again := guarded.LoadOrStore(app, nil); again {
		return
	}
	for _, srv := range app.Servers {
		srv.RegisterConnState(carried.ConnState)
		// The http.Server, which Caddy makes later, shows itself only to this hook.
		// Its requests read Handler after the hook has returned for their connection.
		var once sync.Once
		srv.RegisterConnContext(func(ctx context.Context, _ net.Conn) context.Context {
			once.Do(func() {
				if server, ok := ctx.Value(http.ServerContextKey).(*http.Server); ok {
					server.Handler = &connectGuard{server.Handler, h.logger}
					growWindow(server)
				}
			})
			return ctx
		})
	}
}

// connectionWindow is how many bytes of all HTTP/2 streams of a connection may wait to be
// read. By default it is 1 MiB, as much as of one stream: a socket that isn't read, since it
// is held back or its application is slow, would stop all others of the client, and their
// Pongs.
const connectionWindow = 16 << 20

// growWindow sets connectionWindow, unless somebody has set another one.
func growWindow(server *http.Server) {
	var config http.HTTP2Config
	if server.HTTP2 != nil {
		config = *server.HTTP2
	}
	if config.MaxReceiveBufferPerConnection == 0 {
		config.MaxReceiveBufferPerConnection = connectionWindow
	}
	server.HTTP2 = &config
}

// httpApp is the app that h is being loaded for, nil if it is another one.
func (h *Handler) httpApp() *caddyhttp.App {
	for _, module := range h.ctx.Modules() {
		if app, ok := module.(*caddyhttp.App); ok {
			return app
		}
	}
	return nil
}
