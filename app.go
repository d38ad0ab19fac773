package caddywebsocket

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"
)

func init() {
	caddy.RegisterModule(new(app))
}

// An app is what the handlers of one config have in common. It is not configurable:
// each handler loads it.
//
// It lets proxied sockets survive a reload. reverse_proxy closes its tunnels when
// its config is unloaded unless it has stream_close_delay, which nothing in front
// of it can prevent, so that is set where none is written.
type app struct {
	ctx       caddy.Context
	logger    *zap.Logger
	inventory func() *inventory // of the config, once that is provisioned; nil outside of a server
	stopFleet context.CancelFunc
	retention retention
}

// survival is the stream_close_delay that reverse_proxy is given. Its timer is
// stopped when the last tunnel ends, so nothing is kept longer than the sockets.
const survival = caddy.Duration(maxDuration)

// CaddyModule returns the Caddy module information.
func (*app) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "websocket",
		New: func() caddy.Module { return new(app) },
	}
}

// Provision prepares the app.
func (a *app) Provision(ctx caddy.Context) error {
	a.ctx = ctx
	a.logger = ctx.Logger()
	a.inventory = sync.OnceValue(func() *inventory { return newInventory(ctx) })
	if err := metrics.register(ctx); err != nil {
		return err
	}
	events, err := ctx.App("events")
	if err != nil {
		return err
	}
	return events.(*caddyevents.App).On("stopping", a)
}

// Handle is called before Caddy waits for shutdown_delay. When it exits, the ends
// of the sockets are spread over that time, so that the clients of a fleet don't
// come back all at once.
func (a *app) Handle(context.Context, caddy.Event) error {
	if http := httpApp(a.ctx); http != nil && http.ShutdownDelay > 0 && caddy.Exiting() {
		sessions.drain(time.Duration(http.ShutdownDelay))
	}
	return nil
}

// Start does what can be done once all modules of the config are provisioned and
// none of the last config's has been cleaned up.
func (a *app) Start() error {
	survivors := 0
	places := handlersOf(a.ctx)
	metrics.expect(places)
	for _, place := range places {
		switch h := place.handler.(type) {
		case *reverseproxy.Handler:
			if place.supervised && h.StreamCloseDelay == 0 {
				h.StreamCloseDelay = survival
				survivors++
			}
		case *Handler:
			h.connections.CountTogether(limits.At(place.name))
		}
	}
	if survivors > 0 {
		a.logger.Info("proxied WebSockets survive config reloads", zap.Int("reverse_proxy_handlers", survivors))
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.stopFleet = cancel
	go newFleet(a.ctx).run(ctx) // Stop doesn't wait for it: a reload must not hang with the storage
	return nil
}

// Stop closes the sockets that have nothing left in the config that has taken this
// one's place. When Caddy exits, that is done for all of them as servers shut down.
func (a *app) Stop() error {
	a.stopFleet()
	if caddy.Exiting() {
		return nil
	}
	loaded := newInventory(caddy.ActiveContext())
	sessions.reconcile(loaded)
	metrics.keep(loaded.scopes)
	return nil
}

// expects reports whether the config can have sessions of a scope.
func (a *app) expects(c scope) bool { return a.inventory != nil && a.inventory().scopes[c] }

// An inventory is what a config has for sockets of earlier ones.
type inventory struct {
	handlers  map[*Handler]bool // that are loaded
	upstreams map[string]bool   // their addresses
	dynamic   bool              // there are upstreams that the config doesn't name
	servers   []*caddyhttp.Server
	scopes    map[scope]bool
}

func newInventory(ctx caddy.Context) *inventory {
	v := &inventory{handlers: make(map[*Handler]bool), upstreams: make(map[string]bool), scopes: make(map[scope]bool)}
	places := handlersOf(ctx)
	for _, place := range places {
		switch h := place.handler.(type) {
		case *Handler:
			v.handlers[h] = true
		case *reverseproxy.Handler:
			v.addProxy(h)
		}
	}
	for c, e := range expectationsOf(places) {
		v.scopes[c] = true
		for c := range e.scopes(c) {
			v.scopes[c] = true
		}
	}
	if app := httpApp(ctx); app != nil {
		for _, srv := range app.Servers {
			v.servers = append(v.servers, srv)
		}
	}
	return v
}

// addProxy adds the upstreams of a reverse_proxy.
func (v *inventory) addProxy(h *reverseproxy.Handler) {
	v.dynamic = v.dynamic || h.DynamicUpstreams != nil
	for _, u := range h.Upstreams {
		v.addUpstream(u.Dial)
	}
}

// addUpstream adds the address that a socket's upstream has by its dial address.
func (v *inventory) addUpstream(dial string) {
	address, err := caddy.ParseNetworkAddress(dial)
	if err != nil || strings.Contains(dial, "{") || address.PortRangeSize() != 1 {
		v.dynamic = true
		return
	}
	v.upstreams[address.JoinHostPort(0)] = true
}

// lacks reports whether a session has nothing left in the config: its upstream is
// none of the config's, or no site has its host.
func (v *inventory) lacks(s *session) bool {
	if s.handler.Mode != modePassthrough || v.handlers[s.handler] || s.upstream == "" {
		return false
	}
	if !v.dynamic && !v.upstreams[s.upstream] {
		return true
	}
	return !slices.ContainsFunc(v.servers, func(srv *caddyhttp.Server) bool { return servesHost(srv, s.handshake.host) })
}

// reconcile plans the end of the sessions of earlier configs that have nothing left
// in the one that v is of.
func (g *registry) reconcile(v *inventory) {
	g.mu.Lock()
	g.inventory = v
	g.mu.Unlock()
	for _, s := range g.list() {
		s.reconcile(v)
	}
}

// reconcile plans the end of a session that has nothing left in a config.
func (s *session) reconcile(v *inventory) {
	if v == nil || !v.lacks(s) {
		return
	}
	s.planReload()
}

// Interface guards
var (
	_ caddy.App         = (*app)(nil)
	_ caddy.Provisioner = (*app)(nil)
)
