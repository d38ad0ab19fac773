// Package routes goes through the routes of a config.
package routes

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// A Place is a handler and where it stands in the routes of a config.
type Place struct {
	Handler caddyhttp.MiddlewareHandler
	// Name is made of what the server listens to and of the matchers on the way to
	// the handler, so that it stays the same when other sites come and go.
	Name       string
	Server     string // its name
	Supervised bool   // a supervisor may stand in front
}

// Of returns all handlers in the routes of an app's servers. Given a handler, isSupervisor
// reports whether that supervises those behind it.
func Of(app *caddyhttp.App, isSupervisor func(caddyhttp.MiddlewareHandler) bool) []Place {
	var all []Place
	for _, srv := range app.Servers {
		w := walk{isSupervisor: isSupervisor, server: srv.Name(), named: srv.NamedRoutes, seen: make(map[string]int)}
		w.ofServer(srv)
		all = append(all, w.found...)
	}
	return all
}

// A walk goes through the routes of a server.
type walk struct {
	isSupervisor func(caddyhttp.MiddlewareHandler) bool

	server string // its name
	named  map[string]*caddyhttp.Route
	found  []Place
	seen   map[string]int // how often a name has been given
	depth  int            // of invocations of named routes, which may be circular
}

// maxInvocations is how deep named routes may invoke others.
const maxInvocations = 10

func (w *walk) ofServer(srv *caddyhttp.Server) {
	name := fmt.Sprint(srv.Listen)
	w.routes(srv.Routes, name, false)
	if srv.Errors != nil {
		w.routes(srv.Errors.Routes, name+" errors", false)
	}
}

// routes goes through a list of routes, in front of which a supervisor
// stands if supervised is set, and reports whether one stands in front of what
// follows the list.
func (w *walk) routes(list caddyhttp.RouteList, name string, supervised bool) (after bool) {
	// Of the routes of a group only one is taken.
	groups := make(map[string]bool)
	for i := range list {
		route := &list[i]
		before := supervised
		for group := range groups {
			before = before || group != route.Group
		}
		switch after := w.route(route, name, before); {
		case !after || before || route.Terminal:
		case route.Group != "":
			groups[route.Group] = true
		default:
			supervised = true
		}
	}
	return supervised || len(groups) > 0
}

func (w *walk) route(route *caddyhttp.Route, name string, supervised bool) (after bool) {
	name += " " + describe(route.MatcherSets)
	for _, handler := range route.Handlers {
		key := fmt.Sprintf("%s %T", name, handler)
		w.seen[key]++
		w.found = append(w.found, Place{handler, fmt.Sprintf("%s %d", key, w.seen[key]), w.server, supervised})
		supervised = supervised || w.isSupervisor(handler)
		switch h := handler.(type) {
		case *caddyhttp.Subroute:
			supervised = w.routes(h.Routes, name, supervised)
			if h.Errors != nil {
				w.routes(h.Errors.Routes, name+" errors", supervised)
			}
		case *caddyhttp.Invoke:
			supervised = w.invoke(h.Name, name, supervised)
		case *reverseproxy.Handler:
			for _, response := range h.HandleResponse {
				w.routes(response.Routes, name+" response", supervised)
			}
		}
	}
	return supervised
}

func (w *walk) invoke(route, name string, supervised bool) (after bool) {
	if w.named[route] == nil || w.depth == maxInvocations {
		return supervised
	}
	w.depth++
	defer func() { w.depth-- }()
	return w.route(w.named[route], name+" "+route, supervised)
}

// describe returns the matchers of a route as their config has them.
func describe(sets caddyhttp.MatcherSets) string {
	var text []byte
	for _, set := range sets {
		text = append(text, '|')
		for _, matcher := range set {
			config, err := json.Marshal(matcher)
			if err != nil {
				config = nil
			}
			text = fmt.Appendf(text, "%T%s", matcher, config)
		}
	}
	return string(text)
}

// ServesHost reports whether a server has a route for a host.
func ServesHost(srv *caddyhttp.Server, host string) bool {
	ctx := context.WithValue(context.Background(), caddy.ReplacerCtxKey, caddy.NewReplacer())
	r := (&http.Request{Host: host, Header: make(http.Header)}).WithContext(ctx)
	for _, route := range srv.Routes {
		if len(route.MatcherSets) == 0 {
			return true
		}
		for _, set := range route.MatcherSets {
			if matchesHost(set, r) {
				return true
			}
		}
	}
	return false
}

// matchesHost reports whether a request passes those matchers that match hosts.
func matchesHost(set caddyhttp.MatcherSet, r *http.Request) bool {
	for _, matcher := range set {
		hosts, ok := matcher.(*caddyhttp.MatchHost)
		if !ok {
			continue
		}
		if matched, err := hosts.MatchWithError(r); err != nil || !matched {
			return false
		}
	}
	return true
}
