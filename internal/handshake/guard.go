package handshake

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

// lengthCtxKey is where a connectGuard leaves the length that a handshake had.
const lengthCtxKey caddy.CtxKey = "websocket_connect_length"

// A connectGuard makes HTTP/2 safe for all sites of a server once Extended
// CONNECT is turned on, which Go can do only for the whole process.
//
// It refuses what CheckConnect does before any handler sees it, where Go would
// reset the stream with Extended CONNECT off. Handshakes pass without their
// length, for which reverse_proxy would count a failure or answer with status
// 101; that there was one stays in the context, for Handler to refuse them.
type connectGuard struct {
	http.Handler
	logger *zap.Logger
}

func (g *connectGuard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 2 {
		if err := CheckConnect(r); err != nil {
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

// GuardServers puts a connectGuard in front of all servers of an app, not only of the one
// that has a handler of ours, once. It has connState called when the state of one of their
// connections changes.
func GuardServers(app *caddyhttp.App, connState func(net.Conn, http.ConnState), logger *zap.Logger) {
	if _, again := guarded.LoadOrStore(app, nil); again {
		return
	}
	for _, srv := range app.Servers {
		srv.RegisterConnState(connState)
		// The http.Server, which Caddy makes later, shows itself only to this hook.
		// Its requests read Handler after the hook has returned for their connection.
		var once sync.Once
		srv.RegisterConnContext(func(ctx context.Context, _ net.Conn) context.Context {
			once.Do(func() {
				if server, ok := ctx.Value(http.ServerContextKey).(*http.Server); ok {
					server.Handler = &connectGuard{server.Handler, logger}
					growWindow(server)
				}
			})
			return ctx
		})
	}
}

// Forget forgets an app whose config isn't loaded any more.
func Forget(app *caddyhttp.App) { guarded.Delete(app) }

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
