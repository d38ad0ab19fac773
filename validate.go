package caddywebsocket

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"weak"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"golang.org/x/net/http/httpguts"
)

func (h *Handler) setDefaults() {
	if h.Mode == "" {
		h.Mode = modeEcho
	}
	if h.KeepaliveInterval == 0 && h.Mode == modePassthrough {
		h.KeepaliveInterval = caddy.Duration(defaultPassthroughKeepaliveInterval)
	}
	if h.KeepaliveInterval == 0 {
		h.KeepaliveInterval = caddy.Duration(defaultKeepaliveInterval)
	}
	if h.KeepaliveInterval > 0 && h.KeepaliveTimeout == 0 {
		h.KeepaliveTimeout = 2 * h.KeepaliveInterval
	}
	if h.UpstreamKeepaliveInterval > 0 && h.UpstreamKeepaliveTimeout == 0 {
		h.UpstreamKeepaliveTimeout = 2 * h.UpstreamKeepaliveInterval
	}
	if h.BufferSize == 0 {
		h.BufferSize = defaultBufferSize
	}
	if h.Compression == "" && h.Mode == modeEcho {
		h.Compression = "off"
	}
	if h.MaxMessageSizeFromUpstream == 0 && h.Mode == modePassthrough {
		h.MaxMessageSizeFromUpstream = h.MaxMessageSize
	}
	if h.LogSubprotocol == "" {
		h.LogSubprotocol = logPlain
	}
	for _, r := range []*Rate{h.MessageRate, h.ByteRate} {
		if r != nil && r.Action == "" {
			r.Action = actionDelay
		}
	}
	if h.WriteTimeout == 0 {
		h.WriteTimeout = caddy.Duration(defaultWriteTimeout)
	}
}

// Validate returns an error that names the first invalid option, its value and the rule
// that it violates.
func (h *Handler) Validate() error {
	if h.Mode != modeEcho && h.Mode != modePassthrough {
		return fmt.Errorf("mode '%s': it must be echo or passthrough", h.Mode)
	}
	if h.KeepaliveInterval < 0 && h.KeepaliveTimeout != 0 {
		return fmt.Errorf("keepalive_timeout '%s': it can't be set when keepalive is off", time.Duration(h.KeepaliveTimeout))
	}
	if h.KeepaliveInterval > 0 && h.KeepaliveTimeout <= h.KeepaliveInterval {
		return fmt.Errorf("keepalive_timeout '%s': it must be longer than keepalive_interval, which is '%s'",
			time.Duration(h.KeepaliveTimeout), time.Duration(h.KeepaliveInterval))
	}
	if err := h.validateUpstreamKeepalive(); err != nil {
		return err
	}
	if h.BufferSize < minBufferSize || h.BufferSize > maxBufferSize {
		return fmt.Errorf("buffer_size '%d': it must be from %d to %d bytes", h.BufferSize, minBufferSize, maxBufferSize)
	}
	if h.Mode == modePassthrough && len(h.Subprotocols) > 0 {
		return fmt.Errorf("subprotocols '%s': only valid in echo mode; in passthrough mode the next handler chooses the subprotocol", strings.Join(h.Subprotocols, " "))
	}
	if h.Mode == modePassthrough && h.Console {
		return errors.New("console: only valid in echo mode")
	}
	if h.Mode == modePassthrough && h.TestControls {
		return errors.New("test_controls: only valid in echo mode")
	}
	for i, name := range h.Subprotocols {
		if !httpguts.ValidHeaderFieldName(name) { // a token, as a field name is
			return fmt.Errorf("subprotocols '%s': it must be a token: letters, digits and !#$%%&'*+-.^_`|~", name)
		}
		if slices.Contains(h.Subprotocols[:i], name) {
			return fmt.Errorf("subprotocols '%s': it is given more than once", name)
		}
	}
	if h.ContextTakeover && (h.Mode == modePassthrough || h.Compression != "on") {
		return errors.New("context_takeover: only valid in echo mode with compression on")
	}
	switch h.Compression {
	case "", "on", "off":
	default:
		return fmt.Errorf("compression '%s': it must be on or off", h.Compression)
	}
	if h.MaxConnections > 0 && h.MaxConnectionsPerClient > h.MaxConnections {
		return fmt.Errorf("max_connections_per_client '%d': it can't be more than max_connections, which is '%d'",
			h.MaxConnectionsPerClient, h.MaxConnections)
	}
	if h.Mode == modeEcho && h.MaxMessageSizeFromUpstream != 0 {
		return errors.New("max_message_size_from_upstream: only valid in passthrough mode")
	}
	if err := h.validateExpires(); err != nil {
		return err
	}
	switch h.LogSubprotocol {
	case logPlain, logHash, logOff:
	default:
		return fmt.Errorf("log_subprotocol '%s': it must be plain, hash or off", h.LogSubprotocol)
	}
	if err := h.validateRecheck(); err != nil {
		return err
	}
	if err := h.MessageRate.validate("message_rate"); err != nil {
		return err
	}
	if err := h.ByteRate.validate("byte_rate"); err != nil {
		return err
	}
	if err := h.validateConnectionsPer(); err != nil {
		return err
	}
	if err := h.validateCloseCode(); err != nil {
		return err
	}
	for _, o := range []struct {
		name     string
		value    any
		negative bool
	}{
		{"max_message_size", h.MaxMessageSize, h.MaxMessageSize < 0},
		{"max_connections", h.MaxConnections, h.MaxConnections < 0},
		{"max_connections_per_client", h.MaxConnectionsPerClient, h.MaxConnectionsPerClient < 0},
		{"write_timeout", time.Duration(h.WriteTimeout), h.WriteTimeout < 0},
		{"max_lifetime", time.Duration(h.MaxLifetime), h.MaxLifetime < 0},
		{"close_delay", time.Duration(h.CloseDelay), h.CloseDelay < 0},
	} {
		if o.negative {
			return fmt.Errorf("%s '%v': it can't be negative", o.name, o.value)
		}
	}
	for _, u := range h.origins.NonBrowser {
		h.warn("browsers never send this origin; if pages are to connect, list the one that browsers send, too",
			zap.String("allowed_origins", u.Entry), zap.String("browsers_send", u.BrowsersSend))
	}
	if h.KeepaliveInterval < 0 && h.delaysByRate() {
		h.warn("without keepalive, clients that leave while message_rate or byte_rate holds them back are not noticed")
	}
	if h.Mode == modePassthrough && len(h.AllowedOrigins) == 0 {
		h.warn("pages of any origin may open sockets with their visitors' cookies; " +
			"name the origins in allowed_origins, or write '*' there if that is meant")
	}
	return nil
}

func (h *Handler) validateUpstreamKeepalive() error {
	interval, timeout := time.Duration(h.UpstreamKeepaliveInterval), time.Duration(h.UpstreamKeepaliveTimeout)
	switch {
	case interval == 0 && timeout == 0:
		return nil
	case h.Mode == modeEcho:
		return errors.New("upstream_keepalive: only valid in passthrough mode")
	case interval < 0:
		return fmt.Errorf("upstream_keepalive_interval '%s': it can't be negative", interval)
	case interval == 0:
		return fmt.Errorf("upstream_keepalive_timeout '%s': it can't be set without upstream_keepalive_interval", timeout)
	case timeout <= interval:
		return fmt.Errorf("upstream_keepalive_timeout '%s': it must be longer than upstream_keepalive_interval, which is '%s'", timeout, interval)
	}
	return nil
}

func (h *Handler) validateRecheck() error {
	_, hasCode := h.CloseCode[string(byRecheck)]
	switch interval := time.Duration(h.RecheckInterval); {
	case interval == 0 && len(h.RecheckRoutes) == 0 && hasCode:
		return errors.New("close_code 'recheck': only valid with recheck")
	case interval == 0 && len(h.RecheckRoutes) == 0:
		return nil
	case interval < minRecheckInterval || interval > maxDuration:
		return fmt.Errorf("recheck_interval '%s': it must be at least %s and at most 100 years", interval, minRecheckInterval)
	case len(h.RecheckRoutes) == 0:
		return errors.New("recheck: it must have at least one directive, such as forward_auth")
	}
	return nil
}

// validateConnectionsPer checks max_connections_per in the order of its keys.
func (h *Handler) validateConnectionsPer() error {
	for _, key := range h.connectionKeys {
		if !hasPlaceholder(key) {
			return fmt.Errorf("max_connections_per '%s': the key must have a placeholder, such as {http.auth.user.id}", key)
		}
		switch count := h.MaxConnectionsPer[key]; {
		case count < 1:
			return fmt.Errorf("max_connections_per %s '%d': it must be at least 1", key, count)
		case h.MaxConnections > 0 && count > h.MaxConnections:
			return fmt.Errorf("max_connections_per %s '%d': it can't be more than max_connections, which is '%d'", key, count, h.MaxConnections)
		}
	}
	return nil
}

// hasPlaceholder reports whether a value of the config has a placeholder.
func hasPlaceholder(value string) bool {
	_, after, found := strings.Cut(value, "{")
	return found && strings.Index(after, "}") > 0
}

func (h *Handler) validateExpires() error {
	if h.Expires == "" || hasPlaceholder(h.Expires) {
		return nil
	}
	now := time.Now()
	switch at, ok := parseExpiry(h.Expires, now); {
	case !ok:
		return fmt.Errorf("expires '%s': it must have a placeholder, such as {http.auth.user.expires}, or be %s", h.Expires, expiryFormats)
	case !at.After(now):
		return fmt.Errorf("expires '%s': it has passed", h.Expires)
	}
	return nil
}

// validateCloseCode checks close_code in the order of the causes' names, so that the
// same config always gets the same error.
func (h *Handler) validateCloseCode() error {
	for _, by := range slices.Sorted(maps.Keys(h.CloseCode)) {
		if _, ok := closeCodes[cause(by)]; !ok {
			return fmt.Errorf("close_code '%s': the cause must be one of %s", by, strings.Join(closeCauses(), ", "))
		}
		if h.Mode == modeEcho && cause(by).upstreams() {
			return fmt.Errorf("close_code '%s': only valid in passthrough mode", by)
		}
		if code := h.CloseCode[by]; code != closeNone && !maySendCode(code) {
			return fmt.Errorf("close_code %s '%d': it must be none or a code that a server may send: %s", by, code, codesToSend)
		}
	}
	return nil
}

// warned knows the warnings of the loaded configs.
var warned = warnings{given: make(map[string][]weak.Pointer[Handler])}

// warnings are those about handlers, of which the same one may be in several servers of
// a config, and in the next config again. Each warning is logged once for all of them.
type warnings struct {
	mu    sync.Mutex // guards given
	given map[string][]weak.Pointer[Handler]
}

// warn logs a warning about the handler's config, unless it was logged for the same
// config of a handler that is still loaded.
func (h *Handler) warn(message string, fields ...zap.Field) {
	config, err := json.Marshal(h)
	if err != nil || warned.add(fmt.Sprint(message, fields, string(config)), h) {
		h.logger.Warn(message, fields...)
	}
}

// add notes that a warning is due for h and reports whether it is the first handler
// that is loaded of those.
func (w *warnings) add(warning string, h *Handler) (first bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.DeleteFunc(w.given, func(warning string, handlers []weak.Pointer[Handler]) bool {
		w.given[warning] = slices.DeleteFunc(handlers, func(p weak.Pointer[Handler]) bool {
			h := p.Value()
			return h == nil || h.ctx.Err() != nil
		})
		return len(w.given[warning]) == 0
	})
	first = len(w.given[warning]) == 0
	w.given[warning] = append(w.given[warning], weak.Make(h))
	return first
}
