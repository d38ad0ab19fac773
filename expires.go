package caddywebsocket

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// expiryFormats describes what parseExpiry accepts.
const expiryFormats = "Unix seconds, an RFC 3339 or HTTP date, or a duration from now"

// placeholderTime is how Caddy formats a time that a module gives as a placeholder, without
// the name of the zone and the reading of the monotonic clock that may follow.
const placeholderTime = "2006-01-02 15:04:05.999999999 -0700"

// lastExpiry is the end of the year 9999, after which RFC 3339 has no dates. What looks
// like a later time is likely to be in milliseconds.
const lastExpiry = 253402300799

// parseExpiry parses the time at which a login ends, and reports whether it can be read.
func parseExpiry(value string, now time.Time) (at time.Time, ok bool) {
	value = strings.TrimSpace(value)
	if seconds, err := strconv.ParseFloat(value, 64); err == nil {
		return unixTime(seconds)
	}
	if at, err := time.Parse(time.RFC3339, value); err == nil {
		return at, true
	}
	if at, err := http.ParseTime(value); err == nil {
		return at, true
	}
	if words := strings.Fields(value); len(words) > 3 {
		if at, err := time.Parse(placeholderTime, strings.Join(words[:3], " ")); err == nil {
			return at, true
		}
	}
	d, err := caddy.ParseDuration(value)
	return now.Round(0).Add(d), err == nil && d <= maxDuration
}

// unixTime returns the time that is so many seconds after the Unix epoch.
func unixTime(seconds float64) (at time.Time, ok bool) {
	if math.IsNaN(seconds) || seconds > lastExpiry {
		return time.Time{}, false
	}
	whole, fraction := math.Modf(max(0, seconds))
	return time.Unix(int64(whole), int64(fraction*1e9)), true
}

// formatExpiry formats the time at which a login ends as logs and the admin API have it.
func formatExpiry(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format("2006-01-02T15:04:05.999Z07:00")
}

// expiry returns when the login behind a handshake ends; zero if that isn't known to end.
func (h *Handler) expiry(r *http.Request) (at time.Time, err error) {
	if h.Expires == "" {
		return time.Time{}, nil
	}
	value := ""
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		value = repl.ReplaceAll(h.Expires, "")
	}
	now := time.Now()
	at, ok := parseExpiry(value, now)
	switch {
	case value == "":
		return at, h.noLogin(r, "it is empty")
	case !ok:
		return at, h.noLogin(r, "it can't be read: it must be "+expiryFormats)
	case !at.After(now):
		return at, h.noLogin(r, "it has passed")
	}
	return at, nil
}

// errNoLogin is the cause of refusals because of expires.
var errNoLogin = errors.New("no valid login")

// noLogin logs why a handshake is refused because of expires, and returns the refusal. The
// value isn't logged: it may come from a token.
func (h *Handler) noLogin(r *http.Request, reason string) error {
	clientIP, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	h.logger.Info("refusing handshake", zap.String("expires", h.Expires), zap.String("reason", reason), zap.String("client_ip", clientIP))
	return caddyhttp.Error(http.StatusForbidden, fmt.Errorf("%w: expires '%s': %s", errNoLogin, h.Expires, reason))
}
