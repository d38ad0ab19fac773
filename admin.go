package caddywebsocket

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
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
type adminAPI struct{ ctx caddy.Context }

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
func (a *adminAPI) Provision(ctx caddy.Context) error {
	a.ctx = ctx
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
func (a *adminAPI) serveAll(w http.ResponseWriter, r *http.Request) error {
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
		writeSessions(w, query, limit)
		return nil
	case http.MethodDelete:
		return a.closeAll(w, r)
	}
	return methodNotAllowed(w, r, "GET, DELETE")
}

// listStall is how long a client that gets the list may read nothing.
const listStall = 30 * time.Second

// writeSessions writes the open sessions that match the query, at most limit of them if that is
// not 0. None is held in memory as JSON for longer than it takes to write it. It stops when the
// client has left: there is nobody whom an error would reach.
func writeSessions(w http.ResponseWriter, query url.Values, limit int) {
	w.Header().Set("Content-Type", "application/json")
	conn, enc := http.NewResponseController(w), json.NewEncoder(w)
	defer func() {
		_ = conn.Flush()
		_ = conn.SetWriteDeadline(time.Time{}) // the connection may get another request
	}()
	n, separator := 0, "["
	for s := range sessions.find(query) {
		_ = conn.SetWriteDeadline(time.Now().Add(listStall)) // w may be no connection's
		_, err := io.WriteString(w, separator)
		if err = errors.Join(err, enc.Encode(s.data())); err != nil {
			return
		}
		if n, separator = n+1, ","; n == limit {
			break
		}
	}
	if n == 0 {
		_, _ = io.WriteString(w, separator)
	}
	_, _ = io.WriteString(w, "]\n")
}

// closeAll closes the sessions that match a filter, on all nodes of the fleet if asked to.
func (a *adminAPI) closeAll(w http.ResponseWriter, r *http.Request) error {
	query, err := parseQuery(r, append(closingNames, "fleet")...)
	if err != nil {
		return err
	}
	ofFleet := query.Get("fleet")
	if query.Has("fleet") && ofFleet != "true" && ofFleet != "false" {
		return badRequest("fleet '%s': it must be true or false", ofFleet)
	}
	query.Del("fleet")
	c, err := parseClosing(query)
	if err != nil {
		return err
	}
	if ofFleet == "true" {
		if err := newFleet(a.ctx).publish(r.Context(), query); err != nil {
			return caddy.APIError{HTTPStatus: http.StatusBadGateway, Err: err}
		}
	}
	return writeClosing(w, c.carryOut(func(*session) bool { return true }))
}

// serveOne shows, changes or closes one session.
func (*adminAPI) serveOne(w http.ResponseWriter, r *http.Request) error {
	var (
		act func(s *session, w http.ResponseWriter) error
		err error
	)
	switch r.Method {
	case http.MethodGet:
		_, err = parseQuery(r)
		act = func(s *session, w http.ResponseWriter) error { return writeJSON(w, s.data()) }
	case http.MethodPatch:
		act, err = parsePatch(r)
	case http.MethodDelete:
		act, err = parseDelete(r)
	default:
		return methodNotAllowed(w, r, "GET, PATCH, DELETE")
	}
	if err != nil {
		return err
	}
	id := strings.TrimPrefix(r.URL.Path, sessionsPath+"/")
	s := sessions.get(id)
	if s == nil {
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: fmt.Errorf("no open session has the id '%s'", id)}
	}
	return act(s, w)
}

// parsePatch returns what a request changes about a session: when it expires.
func parsePatch(r *http.Request) (act func(*session, http.ResponseWriter) error, err error) {
	query, err := parseQuery(r, "expires")
	if err != nil {
		return nil, err
	}
	at, err := parseExpires("expires", query.Get("expires"))
	if err != nil {
		return nil, badRequest("%w", err)
	}
	return func(s *session, w http.ResponseWriter) error {
		if !s.expire(at) {
			return caddy.APIError{HTTPStatus: http.StatusConflict, Err: fmt.Errorf("session '%s' is about to close", s.id)}
		}
		return writeJSON(w, s.data())
	}, nil
}

// parseDelete returns how a request closes a session.
func parseDelete(r *http.Request) (act func(*session, http.ResponseWriter) error, err error) {
	query, err := parseQuery(r, "code", "reason")
	if err != nil {
		return nil, err
	}
	end, err := parseEnding(query)
	return func(s *session, w http.ResponseWriter) error {
		s.plan(0, s.handler.adminEnding(end))
		return writeClosing(w, 1)
	}, err
}

// A closing is a request to close sessions.
type closing struct {
	query    url.Values // with the filters
	end      ending
	over     time.Duration
	fraction float64
}

// closingNames are the parameters of a closing.
var closingNames = slices.Clip(append(filterNames, "code", "reason", "over", "fraction"))

// parseClosing returns the closing that a request's parameters ask for.
func parseClosing(query url.Values) (c closing, err error) {
	if !slices.ContainsFunc(filterNames, query.Has) {
		return closing{}, badRequest("closing sessions requires a filter, at least one of %s", strings.Join(filterNames, ", "))
	}
	c.query = query
	if c.end, err = parseEnding(query); err != nil {
		return closing{}, err
	}
	if c.over, c.fraction, err = parseSpread(query); err != nil {
		return closing{}, err
	}
	return c, nil
}

// readClosing returns a closing that another node has asked for. That may be of a later
// version: a parameter that isn't known here must not close more than was meant.
func readClosing(parameters string) (closing, error) {
	query, err := url.ParseQuery(parameters)
	if err != nil {
		return closing{}, fmt.Errorf("parsing '%.200s': %w", parameters, err)
	}
	for name := range query {
		if !slices.Contains(closingNames, name) {
			return closing{}, fmt.Errorf("parameter '%s': it must be one of %s", name, strings.Join(closingNames, ", "))
		}
	}
	return parseClosing(query)
}

// carryOut closes the sessions of this process that the closing means, of those for which
// isMeant returns true, and returns how many there are.
func (c *closing) carryOut(isMeant func(*session) bool) int {
	list := slices.DeleteFunc(slices.Collect(sessions.find(c.query)), func(s *session) bool { return !isMeant(s) })
	// The oldest, so that a client that has just come back isn't closed again.
	list = list[:int(math.Ceil(c.fraction*float64(len(list))))]
	for _, s := range list {
		s.plan(spreadOver(c.over), s.handler.adminEnding(c.end))
	}
	return len(list)
}

// writeClosing answers with the number of sessions that are about to close.
func writeClosing(w http.ResponseWriter, n int) error {
	return writeJSON(w, map[string]int{"closing": n})
}

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
		if f, ok := filters[name]; ok {
			if values[0], err = f.parse(values[0]); err != nil {
				return nil, badRequest("%w", err)
			}
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
	if end.code != 0 {
		return end
	}
	byDefault := h.ending(byAdmin)
	byDefault.reason = end.reason
	return byDefault
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

func methodNotAllowed(w http.ResponseWriter, r *http.Request, allowed string) error {
	w.Header().Set("Allow", allowed)
	return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: fmt.Errorf("method %s: it must be one of %s", r.Method, allowed)}
}

func writeJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}

// find returns the open sessions that match all filters in query, oldest first.
func (g *registry) find(query url.Values) iter.Seq[*session] {
	return func(yield func(*session) bool) {
		for _, s := range g.list() {
			if s.matches(query) && !yield(s) {
				return
			}
		}
	}
}

func (s *session) matches(query url.Values) bool {
	for name := range query {
		if f, ok := filters[name]; ok && !f.matches(s, query.Get(name)) {
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
