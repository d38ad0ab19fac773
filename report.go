package caddywebsocket

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// A requestInfo holds the properties of a session that its handshake request determines.
type requestInfo struct {
	host, port, path, clientIP, user, proto, origin string

	server string // the name of Caddy's HTTP server
}

func newRequestInfo(r *http.Request) requestInfo {
	clientIP, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	host, port := splitHost(r.Host)
	if port == "" {
		port = "80"
		if r.TLS != nil {
			port = "443"
		}
	}
	path := r.URL.Path
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		path = original.URL.Path // before handle_path and rewrites
	}
	proto := r.Proto
	if r.ProtoMajor == 3 { // Proto is "websocket"
		proto = "HTTP/3.0"
	}
	info := requestInfo{
		host:     host,
		port:     port,
		path:     path,
		clientIP: clientIP,
		proto:    proto,
		origin:   r.Header.Get("Origin"),
		server:   serverName(r),
	}
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		info.user, _ = repl.GetString("http.auth.user.id")
	}
	return info
}

// serverName returns the name of the HTTP server that got a request, empty outside of one.
func serverName(r *http.Request) string {
	if srv, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		return srv.Name()
	}
	return ""
}

// splitHost splits the value of a Host field into the host, in lower case, and the
// port, which is empty if there is none.
func splitHost(value string) (host, port string) {
	host, port, err := net.SplitHostPort(value)
	if err != nil {
		host = strings.Trim(value, "[]")
	}
	return strings.ToLower(host), port
}

// An agreement is what the response to a handshake has settled.
type agreement struct {
	subprotocol string
	compression bool
}

// agreed returns the agreement, or a zero one if the handshake is not complete.
func (s *session) agreed() agreement {
	if a := s.agreement.Load(); a != nil {
		return *a
	}
	return agreement{}
}

// agree records the agreement in the header of the response to the handshake.
func (s *session) agree(response http.Header) {
	var a agreement
	for name, values := range response {
		switch http.CanonicalHeaderKey(name) { // Caddy spells them as RFC 6455 does
		case "Sec-Websocket-Protocol":
			a.subprotocol = strings.Join(values, ", ")
		case "Sec-Websocket-Extensions":
			extensions, _ := ws.ParseExtensions(values)
			a.compression = slices.ContainsFunc(extensions, func(e ws.Extension) bool { return e.Name == ws.DeflateExtension })
		}
	}
	s.agreement.Store(&a)
}

// What logs and the like say of a subprotocol.
const (
	logPlain = "plain"
	logHash  = "hash"
	logOff   = "off"
)

// loggedSubprotocol returns what log_subprotocol says of a subprotocol.
func (h *Handler) loggedSubprotocol(name string) string {
	switch {
	case h.LogSubprotocol == logOff || name == "":
		return ""
	case h.LogSubprotocol == logHash:
		return fmt.Sprintf("%.4x", sha256.Sum256([]byte(name))) // as Caddy's filter of that name
	}
	return name
}

// A field is one property of a session. It has the same name in logs, placeholders,
// events and the admin API.
type field struct {
	name  string
	value any // a string, a bool, an int64 or a time.Duration
}

// plain returns the value, converted to seconds if it is a duration.
func (f field) plain() any {
	if d, ok := f.value.(time.Duration); ok {
		return d.Seconds()
	}
	return f.value
}

// report returns the session's current state.
func (s *session) report() []field {
	_, end := s.current()
	agreed := s.agreed()
	reason, failure := end.reason, ""
	if end.withoutClose() {
		reason, failure = failure, reason // no Close frame has carried the reason
	}
	if end.invalid != "" {
		failure = "invalid Close frame: " + end.invalid
	}
	unsupervised := s.unsupervised.Load()
	if unsupervised != nil {
		failure = strings.TrimPrefix(failure+"; "+*unsupervised, "; ")
	}
	return []field{
		{"id", s.id},
		{"mode", s.handler.Mode},
		{"subprotocol", s.handler.loggedSubprotocol(agreed.subprotocol)},
		{"compression", agreed.compression},
		{"origin", s.handshake.origin},
		{"supervised", unsupervised == nil},
		{"messages_received", s.received.Messages()},
		{"messages_sent", s.sent.Messages()},
		{"bytes_received", s.received.Bytes()},
		{"bytes_sent", s.sent.Bytes()},
		{"pings_sent", int64(s.keepalive.pings.Load())},
		{"delayed", s.delayed()},
		{"expires_at", formatExpiry(s.expiresAt())},
		{"last_rtt", time.Duration(s.keepalive.rtt.Load())},
		{"close_code", int64(end.code)},
		{"close_reason", reason},
		{"closed_by", string(end.by)},
		{"error", failure},
	}
}

// delayed returns how long message_rate and byte_rate have held the client back.
func (s *session) delayed() time.Duration {
	if s.rates == nil {
		return 0
	}
	return s.rates.Delayed()
}

// MarshalLogObject adds the session's report to a log entry.
func (s *session) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	for _, f := range s.report() {
		switch v := f.value.(type) {
		case string:
			if v != "" {
				enc.AddString(f.name, v)
			}
		case bool:
			enc.AddBool(f.name, v)
		case int64:
			enc.AddInt64(f.name, v)
		case time.Duration:
			if v != 0 {
				enc.AddDuration(f.name, v)
			}
		}
	}
	return nil
}

// placeholderPrefix begins the names of the placeholders.
const placeholderPrefix = "http.websocket."

// mapPlaceholders makes f provide placeholders of a request.
func mapPlaceholders(r *http.Request, f caddy.ReplacerFunc) {
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Map(f)
	}
}

// noPlaceholder makes {http.websocket.*} empty where there is no session: an unknown
// placeholder would be sent to the application as it is written.
func noPlaceholder(key string) (any, bool) { return "", strings.HasPrefix(key, placeholderPrefix) }

// placeholder returns the value of a placeholder {http.websocket.*}.
func (s *session) placeholder(key string) (any, bool) {
	name, ok := strings.CutPrefix(key, placeholderPrefix)
	if !ok {
		return nil, false
	}
	for _, f := range s.report() {
		if f.name == name {
			return f.plain(), true
		}
	}
	return nil, false
}

// data returns the report and the properties of the handshake as a map, for events and
// the admin API. Durations are in seconds.
func (s *session) data() map[string]any {
	data := map[string]any{
		"host":      s.handshake.host,
		"path":      s.handshake.path,
		"client_ip": s.handshake.clientIP,
		"user_id":   s.handshake.user,
		"proto":     s.handshake.proto,
		"server":    s.handshake.server,
		"upstream":  s.upstream,
		"age":       s.keepalive.Now().Seconds(),
	}
	for _, f := range s.report() {
		data[f.name] = f.plain()
	}
	return data
}

// reportOpened logs the start of the session and emits its event.
func (s *session) reportOpened() {
	if s.handler.debugs() {
		s.handler.logger.Debug("socket opened",
			zap.String("id", s.id), zap.String("client_ip", s.handshake.clientIP), zap.String("proto", s.handshake.proto),
			zap.String("subprotocol", s.handler.loggedSubprotocol(s.agreed().subprotocol)), zap.Bool("compression", s.agreed().compression))
	}
	s.handler.emit("websocket_open", s)
}

// debugs reports whether the handler logs what is for debugging. To ask the logger to check
// a message takes 1 KiB of stack, which would double that of a socket as it ends.
func (h *Handler) debugs() bool { return h.logger.Core().Enabled(zapcore.DebugLevel) }

// reportClosed adds the session to the access log, the span and the metrics when it has
// ended, and emits its event.
func (s *session) reportClosed() {
	s.account.close(s)
	if s.handler.debugs() {
		s.handler.logger.Debug("socket closed", zap.Inline(s))
	}
	s.addToAccessLog()
	if span := trace.SpanFromContext(s.request); span.IsRecording() {
		s.annotate(span)
	}
	s.handler.emit("websocket_close", s)
}

// addToAccessLog adds the report to the request's entry in the access log, if its server has
// one: to set a field costs several allocations.
func (s *session) addToAccessLog() {
	if srv, ok := s.request.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); !ok || srv.Logs == nil {
		return
	}
	if extra, ok := s.request.Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Set(zap.Object("websocket", s))
	}
}

// annotate adds the report to the request's span, which the tracing handler ends when the
// session's handler returns.
func (s *session) annotate(span trace.Span) {
	for _, f := range s.report() {
		key := "websocket." + f.name
		switch v := f.value.(type) {
		case string:
			if v != "" {
				span.SetAttributes(attribute.String(key, strings.ToValidUTF8(v, "\uFFFD"))) // exporters reject invalid UTF-8
			}
		case bool:
			span.SetAttributes(attribute.Bool(key, v))
		case int64:
			span.SetAttributes(attribute.Int64(key, v))
		case time.Duration:
			if v != 0 {
				span.SetAttributes(attribute.Float64(key, v.Seconds()))
			}
		}
	}
}

// emit emits an event about a session to Caddy's events app. If the handler's config has
// been replaced, the event goes to the event handlers of that config.
func (h *Handler) emit(event string, s *session) {
	if h.events == nil || !h.events.ShouldEmit(event) {
		return
	}
	ctx := h.ctx
	ctx.Context = context.WithoutCancel(h.ctx.Context)
	h.events.Emit(ctx, event, s.data())
}
