package caddywebsocket

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-21dbdb71/caddy-websocket/internal/handshake"
)

func init() {
	caddy.RegisterModule(new(Matcher))
}

// Matcher matches requests that attempt a WebSocket handshake, on HTTP/1.1
// (Upgrade), HTTP/2 and HTTP/3 (Extended CONNECT) alike.
type Matcher struct{}

// CaddyModule returns the Caddy module information.
func (*Matcher) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.matchers.websocket",
		New: func() caddy.Module { return new(Matcher) },
	}
}

// UnmarshalCaddyfile sets up the matcher from Caddyfile tokens. Syntax:
//
//	@name websocket
func (m *Matcher) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	for d.Next() {
		if d.NextArg() {
			return d.ArgErr()
		}
		if d.NextBlock(0) {
			return d.Err("the websocket matcher does not take a block")
		}
	}
	return nil
}

// Match returns true if r attempts a WebSocket handshake.
func (m *Matcher) Match(r *http.Request) bool { return handshake.Is(r) }

// MatchWithError returns true if r attempts a WebSocket handshake.
func (m *Matcher) MatchWithError(r *http.Request) (bool, error) { return m.Match(r), nil }

// Interface guards
var (
	_ caddyhttp.RequestMatcherWithError = (*Matcher)(nil)
	_ caddyfile.Unmarshaler             = (*Matcher)(nil)
)
