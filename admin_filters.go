package caddywebsocket

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// A filter is a parameter of the admin API that selects sessions.
type filter struct {
	// parse returns the value in the form that matches takes, or an error if no session
	// can match it: a misspelled filter must not look as if there were no sessions.
	parse   func(value string) (string, error)
	matches func(s *session, value string) bool
}

var filters = map[string]filter{
	"mode":        {parseMode, func(s *session, value string) bool { return s.handler.Mode == value }},
	"host":        {parseHost, (*session).hasHost},
	"path":        {parsePath, func(s *session, value string) bool { return s.handshake.path == value }},
	"client_ip":   {parseClientIP, func(s *session, value string) bool { return canonicalIP(s.handshake.clientIP) == value }},
	"user_id":     {anyValue, func(s *session, value string) bool { return s.handshake.user == value }},
	"subprotocol": {anyValue, func(s *session, value string) bool { return s.agreed().subprotocol == value }},
	"server":      {parseServer, func(s *session, value string) bool { return s.handshake.server == value }},
	"upstream":    {parseUpstream, func(s *session, value string) bool { return strings.EqualFold(s.upstream, value) }},

	"expires_at":     {parseExpiresAt, func(s *session, value string) bool { return formatExpiry(s.expiresAt()) == value }},
	"expires_before": {parseExpiresWhen("expires_before"), func(s *session, value string) bool { return compareExpiry(s, value) < 0 }},
	"expires_after":  {parseExpiresWhen("expires_after"), func(s *session, value string) bool { return compareExpiry(s, value) > 0 }},
}

var filterNames = slices.Clip(slices.Sorted(maps.Keys(filters)))

// parseExpires parses the time at which sessions expire, or none, for which it returns zero.
func parseExpires(name, value string) (time.Time, error) {
	if value == "none" {
		return time.Time{}, nil
	}
	at, ok := parseExpiry(value, time.Now())
	if !ok {
		return at, fmt.Errorf("%s '%s': it must be none, or %s", name, value, expiryFormats)
	}
	return at, nil
}

// parseExpiresAt returns a time in the form that formatExpiry has.
func parseExpiresAt(value string) (string, error) {
	at, err := parseExpires("expires_at", value)
	return formatExpiry(at), err
}

// parseExpiresWhen returns a parser of a time to compare with.
func parseExpiresWhen(name string) func(value string) (string, error) {
	return func(value string) (string, error) {
		at, ok := parseExpiry(value, time.Now())
		if !ok {
			return "", fmt.Errorf("%s '%s': it must be %s", name, value, expiryFormats)
		}
		return at.UTC().Format(time.RFC3339Nano), nil
	}
}

// compareExpiry compares the time at which a session expires with another one. A session
// that never expires is equal to any.
func compareExpiry(s *session, value string) int {
	at := s.expiresAt()
	other, err := time.Parse(time.RFC3339Nano, value)
	if err != nil || at.IsZero() {
		return 0
	}
	return at.Compare(other)
}

func anyValue(value string) (string, error) { return value, nil }

func parseMode(value string) (string, error) {
	if value != modeEcho && value != modePassthrough {
		return "", fmt.Errorf("mode '%s': it must be echo or passthrough", value)
	}
	return value, nil
}

// parseHost accepts a host with or without a port, as clients send it in Host.
func parseHost(value string) (string, error) {
	if strings.ContainsAny(value, "/?#@ ") {
		return "", fmt.Errorf("host '%s': it must be a host, with or without a port, and nothing else", value)
	}
	return strings.ToLower(value), nil
}

// hasHost reports whether a host, with or without a port, is the session's.
func (s *session) hasHost(host string) bool {
	name, port := splitHost(host)
	return name == s.handshake.host && (port == "" || port == s.handshake.port)
}

func parsePath(value string) (string, error) {
	if !strings.HasPrefix(value, "/") {
		return "", fmt.Errorf("path '%s': it must begin with a slash", value)
	}
	return value, nil
}

func parseClientIP(value string) (string, error) {
	if _, err := netip.ParseAddr(value); err != nil {
		return "", fmt.Errorf("client_ip '%s': it must be an IP address", value)
	}
	return canonicalIP(value), nil
}

// canonicalIP returns one spelling for all spellings of an IP address.
func canonicalIP(ip string) string {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return ip
	}
	return addr.Unmap().String()
}

// parseServer accepts the names of the servers that the config or an open session has.
func parseServer(value string) (string, error) {
	names := make(map[string]bool)
	for _, srv := range newInventory(caddy.ActiveContext()).servers {
		names[srv.Name()] = true
	}
	for _, s := range sessions.list() {
		names[s.handshake.server] = true
	}
	delete(names, "") // of a session outside of a server
	if !names[value] {
		return "", fmt.Errorf("server '%s': it must be a server of the config: %s", value, strings.Join(slices.Sorted(maps.Keys(names)), ", "))
	}
	return value, nil
}

// parseUpstream accepts the addresses of the upstreams that the config or an open session
// has, and any address if the config has dynamic upstreams.
func parseUpstream(value string) (string, error) {
	if strings.Contains(value, "://") {
		return "", fmt.Errorf("upstream '%s': it must be an address such as localhost:3000, without a scheme", value)
	}
	config := newInventory(caddy.ActiveContext())
	for _, s := range sessions.list() {
		config.upstreams[s.upstream] = true
	}
	delete(config.upstreams, "") // of sessions that have none
	addresses := slices.Sorted(maps.Keys(config.upstreams))
	if !config.dynamic && !slices.ContainsFunc(addresses, func(a string) bool { return strings.EqualFold(a, value) }) {
		return "", fmt.Errorf("upstream '%s': it must be an upstream of the config: %s", value, strings.Join(addresses, ", "))
	}
	return value, nil
}
