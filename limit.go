package caddywebsocket

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/caddyserver/caddy/v2"
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

// countOut is countIn's counterpart.
func (s *session) countOut() { s.handler.connections.Release(s.claims) }

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
