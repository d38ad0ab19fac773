package e2e

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

func TestMaxConnections(t *testing.T) {
	s := wstest.Start(t, "websocket /total {\nmax_connections 2\n}\nwebsocket /client {\nmax_connections 10 1\n}")
	for _, protocol := range wstest.Protocols {
		t.Run(protocol, func(t *testing.T) {
			for path, limit := range map[string]int{"/total": 2, "/client": 1} {
				var open []*wstest.Peer
				for range limit {
					open = append(open, s.Dial(t, protocol, path))
				}
				p := s.TryDial(t, protocol, path)
				if p.Response.StatusCode != 503 || p.Response.Header.Get("Retry-After") == "" {
					t.Errorf("%s: status %d, Retry-After %q, want 503 and some", path, p.Response.StatusCode, p.Response.Header.Get("Retry-After"))
				}
				closed := len(s.Logs.Entries("socket closed"))
				for _, p := range open {
					p.Echo(ws.OpText, "not disturbed")
					p.CloseNormally()
				}
				s.Logs.Await(t, "socket closed", closed+limit)
			}
		})
	}
}

// The address is that of {client_ip}, behind a trusted proxy as well.
func TestMaxConnectionsByNetwork(t *testing.T) {
	s := wstest.StartGlobal(t, "servers {\ntrusted_proxies static 127.0.0.1/8\n}", "websocket {\nmax_connections 10 1\n}")
	for _, protocol := range wstest.Protocols {
		closed := len(s.Logs.Entries("socket closed"))
		p := s.Dial(t, protocol, "/", "X-Forwarded-For", "2001:db8::1")
		for from, want := range map[string]int{"2001:db8::2": 503, "2001:db8:0:1::1": 0, "192.0.2.1": 0} {
			q := s.TryDial(t, protocol, "/", "X-Forwarded-For", from)
			if refused := q.Response.StatusCode == 503; refused != (want == 503) {
				t.Errorf("%s: %s gets %d", protocol, from, q.Response.StatusCode)
			} else if !refused {
				q.CloseNormally()
			}
		}
		p.CloseNormally()
		s.Logs.Await(t, "socket closed", closed+3)
	}
}

// Each value of a key is counted by itself, also across a reload. Sockets without a value
// are not counted.
func TestMaxConnectionsPer(t *testing.T) {
	const site = "websocket {\nmax_connections_per {header.X-User} 1\nmax_connections_per {header.X-Device} 2\n}"
	s := wstest.Start(t, site)
	for i, protocol := range wstest.Protocols {
		t.Run(protocol, func(t *testing.T) {
			open := []*wstest.Peer{
				s.Dial(t, protocol, "/", "X-User", "ada", "X-Device", "phone"),
				s.Dial(t, protocol, "/", "X-User", "bob", "X-Device", "phone"),
				s.Dial(t, protocol, "/"), s.Dial(t, protocol, "/"), s.Dial(t, protocol, "/", "X-User", ""),
			}
			s.Reload(t, "", fmt.Sprintf("header X-Config %d\n%s", i, site))
			for _, header := range [][]string{{"X-User", "ada"}, {"X-User", "eve", "X-Device", "phone"}} {
				p := s.TryDial(t, protocol, "/", header...)
				if p.Response.StatusCode != http.StatusServiceUnavailable || p.Response.Header.Get("Retry-After") == "" {
					t.Errorf("%v: status %d, Retry-After %q, want 503 and some", header, p.Response.StatusCode, p.Response.Header.Get("Retry-After"))
				}
			}
			closed := len(s.Logs.Entries("socket closed"))
			open[0].CloseNormally()
			s.Logs.Await(t, "socket closed", closed+1)
			open[0] = s.Dial(t, protocol, "/", "X-User", "ada", "X-Device", "tablet")
			for _, p := range open {
				p.Echo(ws.OpText, "not disturbed")
				p.CloseNormally()
			}
			s.Logs.Await(t, "socket closed", closed+1+len(open))
		})
	}
}

// The limit on sockets holds for those of the handler behind.
func TestMaxConnectionsOfPassthrough(t *testing.T) {
	s := wstest.StartTunnels(t, "max_connections 1")
	for i, protocol := range wstest.Protocols {
		t.Run(protocol, func(t *testing.T) {
			client, app := s.For(t, protocol).Tunnel(s.Server, protocol)
			if p := s.TryDial(t, protocol, "/"); p.Response.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("status %d, want 503", p.Response.StatusCode)
			}
			client.Send(ws.OpText, "not disturbed")
			app.ExpectMasked(ws.OpText, "not disturbed")
			app.Conn.Close()
			client.Conn.Close()
			s.Logs.Await(t, "socket closed", i+1)
		})
	}
}

// On HTTP/2 and HTTP/3, request_body max_size in front also counts what a socket receives.
func TestRequestBodyLimit(t *testing.T) {
	s := wstest.Start(t, "request_body {\nmax_size 1KB\n}\nwebsocket")
	for _, protocol := range wstest.Protocols {
		p := s.Dial(t, protocol, "/")
		p.Echo(ws.OpText, wstest.Letters(500))
		p.Send(ws.OpText, wstest.Letters(800))
		if protocol == "http1" || protocol == "tls" {
			p.Expect(ws.OpText, wstest.Letters(800))
			p.CloseNormally()
		} else {
			p.ExpectClose(1009, "request_body max_size")
			p.ExpectEnd()
		}
	}
}
