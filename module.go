// Package caddywebsocket is a Caddy HTTP handler that speaks WebSocket inside
// Caddy's routing and TLS stack: http.handlers.websocket, and the directive
// websocket of the Caddyfile.
package caddywebsocket

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/seed-21dbdb71/caddy-websocket/console"
	"github.com/seed-21dbdb71/caddy-websocket/internal/echo"
	"github.com/seed-21dbdb71/caddy-websocket/internal/handshake"
	"github.com/seed-21dbdb71/caddy-websocket/internal/limit"
	"github.com/seed-21dbdb71/caddy-websocket/internal/origin"
	"github.com/seed-21dbdb71/caddy-websocket/internal/stream"
	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

func init() {
	caddy.RegisterModule(new(Handler))
}

const (
	modeEcho        = "echo"
	modePassthrough = "passthrough"

	defaultKeepaliveInterval = 2 * time.Minute
	// What lies between cuts silent connections after 60 seconds (nginx, AWS), 55
	// (Heroku) or 100 (Cloudflare).
	defaultPassthroughKeepaliveInterval = 30 * time.Second
	defaultBufferSize                   = 4 << 10
	minBufferSize                       = 512
	maxBufferSize                       = 1 << 20
	defaultWriteTimeout                 = 10 * time.Second
)

// Handler speaks WebSocket on HTTP/1.1, HTTP/2 and HTTP/3: as an echo endpoint, or
// supervising the sockets that the next handler serves.
//
// A request that is not a WebSocket handshake is passed to the next handler. In
// `echo` a handshake that breaks RFC 6455 §4.2.1 is refused with status 400,
// 405 or 426. In `passthrough` that is the application's to judge, and only
// what two servers could read differently is refused with 400 or 405: a request
// body, HTTP/1.0, a method other than GET, a repeated `Sec-WebSocket-Key` or
// `Sec-WebSocket-Version`, or a field of the handshake that `Connection` names.
// A wrong origin is refused with 403, and one socket too many with 503. Each of
// these can be rendered by `handle_errors`. An accepted socket has status 101
// in the access log, 200 on HTTP/2 and HTTP/3, and keeps the handlers around
// this one waiting until it has closed, so that logs, metrics and traces cover
// all of it.
//
// Sockets survive any number of reloads of the config: in `passthrough` each
// `reverse_proxy` behind the handler is given a long `stream_close_delay` unless one
// is written. Those whose upstream or site is no longer in the config are closed
// within ten seconds, or `close_delay`. When Caddy exits all are closed with code 1012.
//
// HTTP/2 needs the package
// `github.com/seed-21dbdb71/caddy-websocket/http2` in the build, or
// `GODEBUG=http2xconnect=1` in the environment.
type Handler struct {
	// What is done with a socket. `echo` accepts it and sends every message back.
	// `passthrough` leaves it to the next handler, `reverse_proxy` for one, and
	// supervises it frame by frame without changing what it carries.
	// Default: `echo`.
	Mode string `json:"mode,omitempty"`

	// How long either direction may be silent before the client is sent a Ping,
	// which also keeps proxies in between from closing the socket. Negative: no
	// pings, and no `keepalive_timeout`.
	// Default: `2m` for `echo`, `30s` for `passthrough`.
	KeepaliveInterval caddy.Duration `json:"keepalive_interval,omitempty"`

	// How long nothing at all may come from the client, not even the answer to a
	// Ping, before it counts as dead and its socket is cut. It must be longer than the
	// interval.
	// Default: twice `keepalive_interval`.
	KeepaliveTimeout caddy.Duration `json:"keepalive_timeout,omitempty"`

	// How long the application may be silent, in either direction, before it is sent a
	// Ping, too. Its Pongs are not passed to the client. An application that answers
	// none, or takes nothing, for `upstream_keepalive_timeout` is lost: its client's
	// socket is closed with code 1012. This finds hosts that have vanished, and
	// applications that hang. Not every application answers Pings, though RFC 6455
	// §5.5.2 demands it. For `passthrough` only.
	// Default: no pings.
	UpstreamKeepaliveInterval caddy.Duration `json:"upstream_keepalive_interval,omitempty"`

	// How long nothing at all may come from an application that is sent Pings, before
	// it counts as lost. It must be longer than the interval.
	// Default: twice `upstream_keepalive_interval`.
	UpstreamKeepaliveTimeout caddy.Duration `json:"upstream_keepalive_timeout,omitempty"`

	// The receive buffer: how many bytes of a message are read at once. A longer
	// message is read in larger blocks. Between messages a socket holds no buffer.
	// From 512 to 1048576 bytes.
	// Default: `4096`.
	BufferSize int64 `json:"buffer_size,omitempty"`

	// The origins whose pages may open a socket, each as `scheme://host[:port]`
	// with an optional `*.` for the first label of the host or `*` for the port;
	// `self`, the origin of the request itself; `null`; or `*`, any origin. With
	// another scheme than `http` and `https`, `*` may be the host. What apps and
	// devices send without a host, such as `file://`, or with a path must be equal
	// to what is listed.
	//
	// For `self`, `X-Forwarded-Proto` and `X-Forwarded-Host` count if the request
	// comes from one of the server's `trusted_proxies`. Placeholders are replaced
	// for each request; wildcards and keywords mean nothing in their values, except
	// those of `{env.*}`, `{file.*}` and `{system.*}`.
	//
	// Another origin, or two `Origin` headers, get status 403. A request without
	// `Origin`, which no browser sends, passes.
	// Default: any origin.
	AllowedOrigins []string `json:"allowed_origins,omitempty"`

	// Whether a request without `Origin` gets status 403, too.
	// Default: `false`.
	RequireOrigin bool `json:"require_origin,omitempty"`

	// The subprotocols that are spoken, the preferred one first. The first that
	// the client offers as well is chosen; with none in common the socket has
	// none. For `echo` only.
	// Default: none.
	Subprotocols []string `json:"subprotocols,omitempty"`

	// Whether permessage-deflate is negotiated (RFC 7692): `on` or `off`. In
	// `passthrough` the client's offer goes on to the next handler as it is, or,
	// with `off`, without it.
	// Default: `off` for `echo`, none for `passthrough`.
	Compression string `json:"compression,omitempty"`

	// Whether compression refers to earlier messages, which makes similar messages much
	// smaller, unless the client asks not to. Each socket then keeps up to 32 KiB of what
	// it has received. For `echo` with `compression` only.
	// Default: `false`.
	ContextTakeover bool `json:"context_takeover,omitempty"`

	// The longest message from the client, in bytes, counted after decompression in
	// `echo` and as sent in `passthrough`. A longer one closes the socket with code 1009.
	// Default: no limit.
	MaxMessageSize int64 `json:"max_message_size,omitempty"`

	// The longest message from the application, in bytes as sent. A longer one closes
	// the socket with code 1009. Negative: no limit. For `passthrough` only.
	// Default: the same as `max_message_size`.
	MaxMessageSizeFromUpstream int64 `json:"max_message_size_from_upstream,omitempty"`

	// How many sockets of this handler may be open at once. One more gets status
	// 503 with `Retry-After`.
	// Default: no limit.
	MaxConnections int `json:"max_connections,omitempty"`

	// The same for each client, by the address in `{client_ip}`. An IPv6 client is
	// its /64, since it has all addresses of that. The number can't be more than
	// `max_connections`.
	// Default: no limit.
	MaxConnectionsPerClient int `json:"max_connections_per_client,omitempty"`

	// The same for each value of a key that has placeholders, such as
	// `{http.auth.user.id}`, which are replaced when the handshake arrives. Sockets
	// whose value is empty are not counted. Several keys each have a limit of their own.
	// Default: no limit.
	MaxConnectionsPer map[string]int `json:"max_connections_per,omitempty"`

	// How much the client of a socket may send. A socket that sends more is delayed, or
	// closed with code 1008 if the action is `close`. All frames count, fragments, Pings
	// and Pongs too, except the answers to our Pings.
	// Default: no limit.
	MessageRate *Rate `json:"message_rate,omitempty"`

	// The same for bytes: those of frames with their headers, as they are sent.
	// Default: no limit.
	ByteRate *Rate `json:"byte_rate,omitempty"`

	// How long a write to the client may make no progress before the socket is
	// cut. On TLS, HTTP/2 and HTTP/3 progress is 16 KiB.
	// Default: `10s`.
	WriteTimeout caddy.Duration `json:"write_timeout,omitempty"`

	// How long a socket lives at most. It is closed with code 1012 at a moment
	// drawn from the last tenth of this time.
	// Default: no limit.
	MaxLifetime caddy.Duration `json:"max_lifetime,omitempty"`

	// When the login behind the handshake ends, at which the socket is closed with code
	// 1008 and the reason "session expired". It may have placeholders, which are replaced
	// when the handshake arrives, and must then be Unix seconds (with a fraction, if you
	// like), an RFC 3339 or HTTP date, or a duration from now. If it is empty, can't be
	// read or has passed, the handshake gets status 403. The admin API can move the time
	// of an open socket.
	// Default: never.
	Expires string `json:"expires,omitempty"`

	// How often, give or take a tenth, the handshake of an open socket is checked again by
	// `recheck_routes`. At least one second.
	// Default: never.
	RecheckInterval caddy.Duration `json:"recheck_interval,omitempty"`

	// What the handshake of an open socket must pass again: it goes through these routes as a
	// GET request with the URI and the header that it had, but without `Connection`,
	// `Upgrade` and `Sec-WebSocket-*`. If it reaches their end, or is answered with a status
	// of 2xx, the socket stays open. Any other status below 500 closes it with code 1008 and
	// the reason "no longer authorized". If there is no answer within 10 seconds, or one of
	// 500 or more, the socket stays open until the next check; this is logged.
	// At most 16 handshakes are checked at once, besides those that go on after that time.
	// Default: none.
	RecheckRoutes caddyhttp.RouteList `json:"recheck_routes,omitempty"`

	// How long a socket outlives a reload of the config. It is closed with code
	// 1012 at a moment drawn from the last tenth of this time.
	// Default: no limit.
	CloseDelay caddy.Duration `json:"close_delay,omitempty"`

	// The close codes that clients are sent, by cause: `keepalive_timeout`, `upstream`
	// (the connection to the application was lost), `upstream_timeout` (it didn't
	// answer), `shutdown`, `reload`, `lifetime`, `expired`, `recheck` or `admin`. 1006 cuts
	// the socket without a Close frame.
	// Default: 1006 for `keepalive_timeout`, 1008 for `expired`, `recheck` and `admin`, 1012 for the others.
	CloseCode map[string]int `json:"close_code,omitempty"`

	// What logs, placeholders, events, traces and the admin API say of the chosen
	// subprotocol, which may be a token: `plain` for all, `hash` for the first eight
	// hexadecimal digits of its SHA-256 hash, or `off` for nothing.
	// Default: `plain`.
	LogSubprotocol string `json:"log_subprotocol,omitempty"`

	// Whether a browser that opens the URL gets a page to try the socket with: a GET
	// or HEAD request whose `Accept` names `text/html`. The page opens its socket at
	// the same URL, so `allowed_origins`, if there are any, must allow the site's
	// own origin. For `echo` only.
	// Default: `false`.
	Console bool `json:"console,omitempty"`

	// Whether clients may ask for behavior that tests need, by parameters in the query of the
	// URL: late answers, fragments, close codes, and more (see docs/test-controls.md). Without
	// parameters, an echo is as ever. Unknown ones get status 400. For `echo` only.
	// Default: `false`.
	TestControls bool `json:"test_controls,omitempty"`

	ctx            caddy.Context
	logger         *zap.Logger
	connections    *limit.Connections
	connectionKeys []string // of max_connections_per, sorted
	origins        origin.Policy
	rechecker      *rechecker           // nil without recheck
	recheckBlock   *caddyfile.Dispenser // to be parsed
	buffers        *ws.BufferPool
	events         *caddyevents.App // nil outside of a server
	app            *app             // of the handler's config
	unloaded       bool             // the config was replaced; sessions.mu guards it
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.websocket",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision sets the defaults and prepares the handler.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.ctx = ctx
	h.logger = ctx.Logger()
	h.setDefaults()
	h.app = new(app) // outside of a server
	var err error
	if h.origins, err = origin.NewPolicy(h.AllowedOrigins, h.RequireOrigin); err != nil {
		return err
	}
	h.connections = limit.NewConnections()
	h.connectionKeys = slices.Sorted(maps.Keys(h.MaxConnectionsPer))
	if err := h.RecheckRoutes.Provision(ctx); err != nil {
		return fmt.Errorf("recheck: %w", err)
	}
	h.rechecker = newRechecker(h)
	h.buffers = ws.NewBufferPool(int(h.BufferSize) + ws.MaxHeader)
	if srv, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		srv.RegisterConnContext(func(ctx context.Context, c net.Conn) context.Context {
			if ctx.Value(stream.ConnCtxKey) != nil {
				return ctx // another handler of the server has put it there
			}
			return context.WithValue(ctx, stream.ConnCtxKey, c)
		})
		closeOnExit(srv)
		if app := h.httpApp(); app != nil {
			handshake.GuardServers(app, carried.ConnState, h.logger)
		}
		module, err := ctx.App("websocket")
		if err != nil {
			return err
		}
		h.app = module.(*app)
		events, err := ctx.App("events")
		if err != nil {
			return err
		}
		h.events = events.(*caddyevents.App)
	}
	return nil
}

// ServeHTTP refuses or serves a handshake and leaves all else to next.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if err := handshake.CheckConnect(r); err != nil {
		return h.refuse(r, err)
	}
	if !handshake.Is(r) {
		mapPlaceholders(r, noPlaceholder)
		if h.Console && console.Answer(w, r, h.TestControls) {
			return nil
		}
		return next.ServeHTTP(w, r)
	}
	return h.serveSocket(w, r, next)
}

// serveSocket serves a socket until it has closed, unless its handshake is refused.
func (h *Handler) serveSocket(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) (err error) {
	var s *session
	defer func() { // also for a panic of anybody's
		if s != nil {
			defer s.countOut()
			s.finish()
		}
	}()
	if h.Mode == modePassthrough {
		if s, err = h.admit(w.Header(), r); err != nil {
			return err
		}
		return s.passthrough(w, r, next)
	}
	var c *echo.Conn
	onOwnStack(func() {
		if s, err = h.admit(w.Header(), r); err == nil {
			c, err = s.accept(w, r)
		}
	})
	if err != nil || c == nil {
		return err
	}
	s.echo(c)
	return nil
}

// admit checks a handshake, makes a session of it, and counts its socket in.
func (h *Handler) admit(answer http.Header, r *http.Request) (*session, error) {
	err := handshake.Check(answer, r, h.Mode == modeEcho)
	if err == nil {
		err = h.checkOrigin(r)
	}
	var expires time.Time
	if err == nil {
		expires, err = h.expiry(r)
	}
	if err != nil {
		return nil, h.refuse(r, err)
	}
	s := newSession(h, r)
	s.expire(expires)
	if err := s.countIn(answer, r); err != nil {
		return nil, h.refuse(r, err)
	}
	mapPlaceholders(r, s.placeholder)
	return s, nil
}

// refuse counts the handshake that err refuses and returns err.
func (h *Handler) refuse(r *http.Request, err error) error {
	metrics.refused(scope{mode: h.Mode, server: serverName(r)}, err)
	mapPlaceholders(r, noPlaceholder)
	return err
}

// Cleanup lets the open sockets live on under the next config.
func (h *Handler) Cleanup() error {
	handshake.Forget(h.httpApp())
	sessions.unload(h)
	return nil
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

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
