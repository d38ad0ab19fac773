package caddywebsocket

import (
	"math"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-21dbdb71/caddy-websocket/internal/handshake"
	"github.com/seed-21dbdb71/caddy-websocket/internal/origin"
	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// checkOrigin checks the request against allowed_origins and require_origin.
func (h *Handler) checkOrigin(r *http.Request) error {
	origins := r.Header["Origin"]
	repl := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if h.origins.Allows(origins, func() origin.Origin { return selfOrigin(r) }, repl) {
		return nil
	}
	return handshake.Refusal(http.StatusForbidden, "origin %q is not allowed", origins)
}

// selfOrigin is the origin of a page of the site that r was made to, as the
// client knows it: when r comes from one of Caddy's trusted_proxies,
// X-Forwarded-Proto and X-Forwarded-Host say what that is.
func selfOrigin(r *http.Request) origin.Origin {
	secure, host := r.TLS != nil, r.Host
	if trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); trusted {
		hops := trustedHops(r)
		switch strings.ToLower(forwarded(r.Header["X-Forwarded-Proto"], hops)) {
		case "https", "wss": // Traefik names the scheme of the socket
			secure = true
		case "http", "ws":
			secure = false
		}
		if value := forwarded(r.Header["X-Forwarded-Host"], hops); value != "" {
			host = value
		}
	}
	return origin.Of(secure, host)
}

// forwarded returns what the first of the trusted proxies has added to a list, or
// the first element, if not every proxy adds one.
func forwarded(fields []string, hops int) string {
	list := ws.ListElements(fields)
	if len(list) == 0 {
		return ""
	}
	return list[max(0, len(list)-hops)]
}

// trustedHops is the number of elements that the trusted proxies have added to a
// list such as X-Forwarded-For. Unless trusted_proxies_strict is set, Caddy takes
// all of such a list for theirs; then the client's address ends it.
func trustedHops(r *http.Request) int {
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || server.TrustedProxiesStrict == 0 {
		return math.MaxInt
	}
	client, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	if client == bareAddress(r.RemoteAddr) {
		return math.MaxInt // no address is of anybody else
	}
	hops := 0
	for _, address := range slices.Backward(ws.ListElements(r.Header["X-Forwarded-For"])) {
		hops++
		if bareAddress(address) == client {
			return hops
		}
	}
	return 1
}

// bareAddress is an IP address as Caddy writes it, without port and zone.
func bareAddress(s string) string {
	host, _, err := net.SplitHostPort(s)
	if err != nil {
		host = s
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	return addr.WithZone("").String()
}
