package caddywebsocket

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-21dbdb71/caddy-websocket/internal/limit"
)

// retryAfter is what a client is told to wait, in seconds, when there are too
// many open sockets.
const retryAfter = 10

// limits are the open sockets of all places in the config.
var limits limit.Places

// What sockets are counted by, besides the keys of max_connections_per. Both are counted
// even without a limit, for a config with one to come.
const (
	byHandler = "handler"
	byNetwork = "network"
)

// claims returns the counts that a socket takes part in.
func (h *Handler) claims(r *http.Request, clientIP string) []limit.Claim {
	claims := make([]limit.Claim, 0, 2+len(h.MaxConnectionsPer))
	claims = append(claims,
		limit.Claim{Key: byHandler, Max: h.MaxConnections},
		limit.Claim{Key: byNetwork, Value: limit.Network(clientIP), Max: h.MaxConnectionsPerClient})
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return claims
	}
	for _, key := range h.connectionKeys {
		if value := repl.ReplaceAll(key, ""); value != "" {
			claims = append(claims, limit.Claim{Key: key, Value: value, Max: h.MaxConnectionsPer[key]})
		}
	}
	return claims
}

// countIn counts a session's socket in, unless that would be one too many. The error
// carries the status of the answer, for which answer gets the headers.
func (s *session) countIn(answer http.Header, r *http.Request) error {
	claims := s.handler.claims(r, s.handshake.clientIP)
	exceeded, open := s.handler.connections.Acquire(claims)
	if exceeded == nil {
		s.claims = claims
		return nil
	}
	answer.Set("Retry-After", strconv.Itoa(retryAfter))
	return caddyhttp.Error(http.StatusServiceUnavailable, tooMany(exceeded, open))
}

// countOut is countIn's counterpart. Calls after the first one do nothing.
func (s *session) countOut() {
	s.handler.connections.Release(s.claims)
	s.claims = nil
}

// tooMany describes a limit that is reached. The value of a key may be a secret.
func tooMany(exceeded *limit.Claim, open int) error {
	switch exceeded.Key {
	case byHandler:
		return fmt.Errorf("max_connections: %d sockets are open", open)
	case byNetwork:
		return fmt.Errorf("max_connections: %d sockets of client %s are open", open, exceeded.Value)
	default:
		return fmt.Errorf("max_connections_per %s: %d sockets with the same value are open", exceeded.Key, open)
	}
}

// A Rate is how much a client may send in a time: on average, and also at once after it
// has sent less.
type Rate struct {
	// How much may be sent.
	Limit int64 `json:"limit,omitempty"`

	// In which time.
	Per caddy.Duration `json:"per,omitempty"`

	// What happens when more is sent. `delay` reads it later, so that the client's own
	// buffers fill up and it has to wait; nothing is lost. `close` closes the socket with
	// code 1008.
	// Default: `delay`.
	Action string `json:"action,omitempty"`
}

const (
	actionDelay = "delay"
	actionClose = "close"
)

// limit returns the rate of what is counted by its name.
func (r *Rate) limit(name string) limit.Rate {
	if r == nil {
		return limit.Rate{}
	}
	rate := limit.Rate{Count: r.Limit, Per: time.Duration(r.Per)}
	if r.Action == actionClose {
		rate.Refuse = name + " rate exceeded"
	}
	return rate
}

// limitsClients reports whether there is a limit on what a client may send.
func (h *Handler) limitsClients() bool {
	return h.MaxMessageSize > 0 || h.MessageRate != nil || h.ByteRate != nil
}

// delaysByRate reports whether a client is held back that exceeds a rate.
func (h *Handler) delaysByRate() bool {
	return h.MessageRate != nil && h.MessageRate.Action == actionDelay || h.ByteRate != nil && h.ByteRate.Action == actionDelay
}

// closesByRate reports whether a socket is closed that exceeds a rate.
func (h *Handler) closesByRate() bool {
	return h.MessageRate != nil && h.MessageRate.Action == actionClose || h.ByteRate != nil && h.ByteRate.Action == actionClose
}

// validate returns an error that names the option if the rate is invalid.
func (r *Rate) validate(option string) error {
	switch {
	case r == nil:
		return nil
	case r.Limit < 1 || r.Limit > maxSize:
		return fmt.Errorf("%s limit '%d': it must be from 1 to %d", option, r.Limit, int64(maxSize))
	case r.Per < 1 || r.Per > caddy.Duration(maxDuration):
		return fmt.Errorf("%s per '%s': it must be longer than 0 and at most 100 years", option, time.Duration(r.Per))
	case r.Action != actionDelay && r.Action != actionClose:
		return fmt.Errorf("%s action '%s': it must be %s or %s", option, r.Action, actionDelay, actionClose)
	}
	return nil
}

// unmarshalRate parses the arguments of message_rate or byte_rate after the limit.
func unmarshalRate(d *caddyfile.Dispenser, option string, r *Rate) error {
	if !d.NextArg() {
		return d.ArgErr()
	}
	if err := parseDuration(d, option, &r.Per); err != nil {
		return err
	}
	if !d.NextArg() {
		return nil
	}
	if r.Action = d.Val(); r.Action != actionDelay && r.Action != actionClose {
		return d.Errf("parsing %s '%s': it must be %s or %s", option, r.Action, actionDelay, actionClose)
	}
	return nil
}

// unmarshalMessageRate parses message_rate, of which one argument has been read.
func (h *Handler) unmarshalMessageRate(d *caddyfile.Dispenser) error {
	count := 0
	if err := parseCount(d, "message_rate", &count); err != nil {
		return err
	}
	h.MessageRate = &Rate{Limit: int64(count)}
	return unmarshalRate(d, "message_rate", h.MessageRate)
}

// unmarshalByteRate parses byte_rate, of which one argument has been read.
func (h *Handler) unmarshalByteRate(d *caddyfile.Dispenser) error {
	h.ByteRate = new(Rate)
	if err := parseSize(d, "byte_rate", &h.ByteRate.Limit); err != nil {
		return err
	}
	return unmarshalRate(d, "byte_rate", h.ByteRate)
}
