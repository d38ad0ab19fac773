package caddywebsocket

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

func init() {
	caddy.RegisterModule(new(adminAPI))
}

// adminAPI is a module that lists and closes the open WebSocket sessions of the process
// at the endpoint /websocket/sessions of Caddy's admin API. It has no configuration and
// is available wherever that API is.
type adminAPI struct{}

const (
	sessionsPath = "/websocket/sessions"

	// maxCloseReason is the longest reason that fits in a Close frame, in bytes
	// (RFC 6455 §5.5).
	maxCloseReason = ws.MaxControlPayload - 2
)

// CaddyModule returns the Caddy module information.
func (*adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.websocket",
		New: func() caddy.Module { return new(adminAPI) },
	}
}

// Provision registers the metrics, so that they are served even if the config has no
// websocket handler: sessions of earlier configs may still be open.
func (*adminAPI) Provision(ctx caddy.Context) error {
	return metrics.register(ctx)
}

// Routes returns the routes of the endpoint.
func (a *adminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: sessionsPath, Handler: caddy.AdminHandlerFunc(a.serveAll)},
		{Pattern: sessionsPath + "/", Handler: caddy.AdminHandlerFunc(a.serveOne)},
	}
}

// serveAll lists the open sessions or closes those that match a filter.
func (*adminAPI) serveAll(w http.ResponseWriter, r *http.Request) error {
	switch r.Method {
	case http.MethodGet:
		query, err := parseQuery(r, append(filterNames, "limit")...)
		if err != nil {
			return err
		}
		limit := 0
		if query.Has("limit") {
			if limit, err = strconv.Atoi(query.Get("limit")); err != nil || limit < 1 {
				return badRequest("limit '%s': it must be a whole number of at least 1", query.Get("limit"))
			}
		}
		list := []map[string]any{}
		for _, s := range sessions.find(query) {
			if limit > 0 && len(list) == limit {
				break
			}
			list = append(list, s.data())
		}
		return writeJSON(w, list)
	case http.MethodDelete:
		query, err := parseQuery(r, append(filterNames, "code", "reason", "over", "fraction")...)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(filterNames, query.Has) {
			return badRequest("closing sessions requires a filter, at least one of %s", strings.Join(filterNames, ", "))
		}
		end, err := parseEnding(query)
		if err != nil {
			return err
		}
		over, fraction, err := parseSpread(query)
		if err != nil {
			return err
		}
		list := sessions.find(query)
		// The oldest, so that a client that has just come back isn't closed again.
		list = list[:int(math.Ceil(fraction*float64(len(list))))]
		return closeSessions(w, list, end, over)
	}
	return methodNotAllowed(w, r)
}

// serveOne shows or closes one session.
func (*adminAPI) serveOne(w http.ResponseWriter, r *http.Request) error {
	id := strings.TrimPrefix(r.URL.Path, sessionsPath+"/")
	var (
		end   ending
		query url.Values
		err   error
	)
	switch r.Method {
	case http.MethodGet:
		_, err = parseQuery(r)
	case http.MethodDelete:
		if query, err = parseQuery(r, "code", "reason"); err == nil {
			end, err = parseEnding(query)
		}
	default:
		return methodNotAllowed(w, r)
	}
	if err != nil {
		return err
	}
	s := sessions.get(id)
	if s == nil {
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: fmt.Errorf("no open session has the id '%s'", id)}
	}
	if r.Method == http.MethodDelete {
		return closeSessions(w, []*session{s}, end, 0)
	}
	return writeJSON(w, s.data())
}

// closeSessions begins the closing handshake on sessions and answers with their number.
func closeSessions(w http.ResponseWriter, list []*session, end ending, over time.Duration) error {
	for _, s := range list {
		s.plan(spreadOver(over), s.handler.adminEnding(end))
	}
	return writeJSON(w, map[string]int{"closing": len(list)})
}

// filters are the parameters that select sessions, each with the property of a session
// that must equal its value.
var filters = map[string]func(*session) string{
	"mode":        func(s *session) string { return s.handler.Mode },
	"host":        func(s *session) string { return s.handshake.host },
	"path":        func(s *session) string { return s.handshake.path },
	"client_ip":   func(s *session) string { return s.handshake.clientIP },
	"user_id":     func(s *session) string { return s.handshake.user },
	"subprotocol": func(s *session) string { return s.agreed().subprotocol },
}

var filterNames = slices.Clip(slices.Sorted(maps.Keys(filters)))

// parseQuery parses the request's parameters. Each must be in allowed and must be given
// only once.
func parseQuery(r *http.Request, allowed ...string) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badRequest("parsing the query: %v", err)
	}
	for name, values := range query {
		if len(allowed) == 0 {
			return nil, badRequest("parameter '%s': this request takes no parameters", name)
		}
		if !slices.Contains(allowed, name) {
			return nil, badRequest("parameter '%s': it must be one of %s", name, strings.Join(allowed, ", "))
		}
		if len(values) > 1 {
			return nil, badRequest("parameter '%s': it is given more than once", name)
		}
		if values[0] == "" && name != "subprotocol" && name != "reason" {
			// A script's unset variable must not select all sessions.
			return nil, badRequest("parameter '%s': it must not be empty", name)
		}
	}
	return query, nil
}

// parseSpread returns over what time the ends of sessions are to be spread, and
// which fraction of them is to end.
func parseSpread(query url.Values) (over time.Duration, fraction float64, err error) {
	fraction = 1
	if query.Has("over") {
		if over, err = caddy.ParseDuration(query.Get("over")); err != nil || over <= 0 || over > maxDuration {
			return 0, 0, badRequest("over '%s': it must be a duration above 0, such as 60s", query.Get("over"))
		}
	}
	if query.Has("fraction") {
		if fraction, err = strconv.ParseFloat(query.Get("fraction"), 64); err != nil || !(fraction > 0 && fraction <= 1) {
			return 0, 0, badRequest("fraction '%s': it must be a number above 0 and at most 1", query.Get("fraction"))
		}
	}
	return over, fraction, nil
}

// adminEnding returns end, with the code that close_code sets for admin if it has none.
func (h *Handler) adminEnding(end ending) ending {
	if end.code == 0 {
		end.code = h.ending(byAdmin).code
	}
	return end
}

// parseEnding returns the ending that a request to close sessions asks for. Its code is
// 0 if the request has none.
func parseEnding(query url.Values) (ending, error) {
	code, reason := 0, query.Get("reason")
	if query.Has("code") {
		var err error
		if code, err = strconv.Atoi(query.Get("code")); err != nil || !maySendCode(code) {
			return ending{}, badRequest("code '%s': it must be a code that a server may send: %s", query.Get("code"), codesToSend)
		}
	}
	if len(reason) > maxCloseReason || !utf8.ValidString(reason) {
		return ending{}, badRequest("reason: it must be valid UTF-8 of at most %d bytes", maxCloseReason)
	}
	return ending{by: byAdmin, code: code, reason: reason}, nil
}

func badRequest(format string, args ...any) error {
	return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf(format, args...)}
}

func methodNotAllowed(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Allow", "GET, DELETE")
	return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: fmt.Errorf("method %s: it must be GET or DELETE", r.Method)}
}

func writeJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}

// find returns the open sessions that match all filters in query, oldest first.
func (g *registry) find(query url.Values) []*session {
	return slices.DeleteFunc(g.list(), func(s *session) bool { return !s.matches(query) })
}

func (s *session) matches(query url.Values) bool {
	for name, property := range filters {
		want := query.Get(name)
		if name == "host" {
			want = strings.ToLower(want)
		}
		if query.Has(name) && want != property(s) {
			return false
		}
	}
	return true
}

// Interface guards
var (
	_ caddy.Provisioner = (*adminAPI)(nil)
	_ caddy.AdminRouter = (*adminAPI)(nil)
)
