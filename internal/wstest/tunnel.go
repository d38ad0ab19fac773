package wstest

import (
	"fmt"
	"testing"
)

// Tunnels is a server that supervises what reverse_proxy serves. Each protocol has an
// upstream of its own, so that tunnels of all of them can be opened at once.
type Tunnels struct {
	*Server
	upstreams map[string]*Upstream
}

// StartTunnels starts a server with the given options.
func StartTunnels(t *testing.T, options string) *Tunnels {
	t.Helper()
	upstreams := listenForProtocols(t)
	return &Tunnels{Start(t, tunnelSite(options, upstreams)), upstreams}
}

// For is the upstream of the protocol, for a subtest.
func (s *Tunnels) For(t *testing.T, protocol string) *Upstream { return s.upstreams[protocol].For(t) }

func listenForProtocols(t *testing.T) map[string]*Upstream {
	t.Helper()
	upstreams := make(map[string]*Upstream)
	for _, protocol := range Protocols {
		upstreams[protocol] = ListenUpstream(t)
	}
	return upstreams
}

func tunnelSite(options string, upstreams map[string]*Upstream) string {
	return fmt.Sprintf(`
		websocket passthrough {
			allowed_origins *
			%s
		}
		respond /no-socket 204
		@http1 protocol http
		reverse_proxy @http1 %s
		@http2 protocol http/2
		reverse_proxy @http2 %s
		@http3 protocol http/3
		reverse_proxy @http3 %s
		reverse_proxy %s
	`, options, upstreams["http1"].Addr(), upstreams["http2"].Addr(), upstreams["http3"].Addr(), upstreams["tls"].Addr())
}

// OnEveryTunnel runs f on all protocols at once, over one server that supervises what
// reverse_proxy serves, and returns the server when f has ended on all of them.
func OnEveryTunnel(t *testing.T, options string, f func(t *testing.T, s *Server, u *Upstream, protocol string)) *Server {
	t.Helper()
	s := StartTunnels(t, options)
	SideBySide(t, func(t *testing.T, protocol string) { f(t, s.Server, s.For(t, protocol), protocol) })
	return s.Server
}

// OnEveryTunnelBeside is OnEveryTunnel for a parallel test: Caddy has a process of its own.
func OnEveryTunnelBeside(t *testing.T, options string, f func(t *testing.T, s *Server, u *Upstream, protocol string)) {
	t.Helper()
	upstreams := listenForProtocols(t)
	p := StartBeside(t, "", tunnelSite(options, upstreams))
	SideBySide(t, func(t *testing.T, protocol string) { f(t, &p.Server, upstreams[protocol].For(t), protocol) })
}

// OpenTunnels is OnEveryTunnel for what takes its time, in a parallel test. Caddy has a
// process of its own, and the sockets stay open when f has returned.
func OpenTunnels(t *testing.T, options string, f func(s *Server, u *Upstream, protocol string)) *Server {
	t.Helper()
	upstreams := listenForProtocols(t)
	p := StartBeside(t, "", tunnelSite(options, upstreams))
	for _, protocol := range Protocols {
		f(&p.Server, upstreams[protocol], protocol)
	}
	return &p.Server
}

// AwaitClosed waits until n sockets have closed, and makes sure that all were closed by the
// same.
func (s *Server) AwaitClosed(t *testing.T, n int, by string) []map[string]any {
	t.Helper()
	entries := s.Logs.Await(t, "socket closed", n)
	for _, e := range entries {
		if e["closed_by"] != by {
			t.Errorf("closed by %v, want %s", e["closed_by"], by)
		}
	}
	return entries
}
