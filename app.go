package caddywebsocket

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/seed-21dbdb71/caddy-websocket/internal/routes"
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
		switch h := place.Handler.(type) {
		case *reverseproxy.Handler:
			if place.Supervised && h.StreamCloseDelay == 0 {
				h.StreamCloseDelay = survival
				survivors++
			}
		case *Handler:
			h.connections.CountTogether(limits.At(place.Name))
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
		switch h := place.Handler.(type) {
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
	return !slices.ContainsFunc(v.servers, func(srv *caddyhttp.Server) bool { return routes.ServesHost(srv, s.handshake.host) })
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

// httpApp returns the HTTP app of a config, nil if it has none.
func httpApp(ctx caddy.Context) *caddyhttp.App {
	module, err := ctx.AppIfConfigured("http")
	if err != nil {
		return nil
	}
	app, _ := module.(*caddyhttp.App)
	return app
}

// handlersOf returns all handlers in the routes of a config's HTTP servers.
func handlersOf(ctx caddy.Context) []routes.Place {
	app := httpApp(ctx)
	if app == nil {
		return nil
	}
	return routes.Of(app, func(handler caddyhttp.MiddlewareHandler) bool {
		h, ok := handler.(*Handler)
		return ok && h.Mode == modePassthrough
	})
}

// maxRetained is how many earlier configs the open sockets may keep in memory. A socket
// keeps all of the config under which its handler runs, and some setups reload every
// minute.
const maxRetained = 100

// A retention is what the registry knows about a config that was replaced. The registry's
// lock guards it.
type retention struct {
	sessions int  // that are open
	ended    bool // the end of all of them is planned, because there are newer ones enough
}

// retainLocked counts sessions whose config, a, was replaced. It returns those that can't go on
// because there are newer configs enough; the caller plans their end.
func (g *registry) retainLocked(a *app, list ...*session) (over []*session) {
	if len(list) == 0 {
		return nil
	}
	config := &a.retention
	if config.sessions == 0 {
		g.retained = append(g.retained, a)
		over = g.limitRetainedLocked()
	}
	config.sessions += len(list)
	if config.ended {
		over = append(over, list...)
	}
	g.watchLocked()
	return over
}

// releaseLocked is retainLocked's counterpart.
func (g *registry) releaseLocked(s *session) {
	config := &s.handler.app.retention
	if config.sessions--; config.sessions == 0 {
		at := slices.Index(g.retained, s.handler.app)
		g.retained = slices.Delete(g.retained, at, at+1)
	}
}

// limitRetainedLocked ends the oldest configs if there are more than maxRetained, and returns
// their sessions.
func (g *registry) limitRetainedLocked() (over []*session) {
	for _, a := range g.retained[:max(0, len(g.retained)-maxRetained)] {
		if a.retention.ended {
			continue
		}
		a.retention.ended = true
		for h, list := range g.byHandler {
			if h.app == a {
				over = slices.AppendSeq(over, maps.Keys(list))
			}
		}
	}
	return over
}

// retainedConfigs returns how many earlier configs open sessions keep in memory.
func (g *registry) retainedConfigs() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.retained)
}

// reloadWait is how long sockets that a reload ends stay open at most, unless close_delay
// says otherwise.
const reloadWait = 10 * time.Second

// planReload plans the end of a session that can't go on under a newer config.
func (s *session) planReload() {
	wait := reloadWait
	if delay := time.Duration(s.handler.CloseDelay); delay > 0 {
		wait = delay
	}
	s.plan(spreadOver(wait), s.handler.ending(byReload))
}

func planReload(list []*session) {
	for _, s := range list {
		s.planReload()
	}
}

// Interface guards
var (
	_ caddy.App         = (*app)(nil)
	_ caddy.Provisioner = (*app)(nil)
)
