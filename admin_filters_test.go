package caddywebsocket

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

func TestAdminFilters(t *testing.T) {
	u := listenUpstream(t)
	p := startProcess(t, "", "websocket /echo\nwebsocket /app passthrough {\nallowed_origins *\n}\nrespond /no-socket 204\nreverse_proxy "+u.Addr().String())
	_, plain, _ := net.SplitHostPort(p.plain)
	_, secure, _ := net.SplitHostPort(p.secure)
	for _, protocol := range protocols {
		p.dial(t, protocol, "/echo").echo(ws.OpText, "hello")
		apps := make(chan *peer)
		go func() { apps <- u.accept() }()
		client := p.dial(t, protocol, "/app")
		app := <-apps
		client.send(ws.OpText, "hello")
		app.expectMasked(ws.OpText, "hello")
	}
	var server string
	for _, s := range p.listed(t, "?mode=passthrough") {
		if s["upstream"] != u.Addr().String() {
			t.Errorf("the upstream is %v, want %s", s["upstream"], u.Addr())
		}
		server = fmt.Sprint(s["server"])
	}
	if server != "secure" {
		t.Errorf("the server is %q, want secure", server)
	}
	for query, want := range map[string]int{
		"?host=127.0.0.1": 8, "?host=127.0.0.1:" + plain: 2, "?host=127.0.0.1:" + secure: 6, "?host=127.0.0.1:1": 0,
		"?client_ip=127.0.0.1": 8, "?client_ip=::ffff:127.0.0.1": 8, "?client_ip=127.0.0.2": 0,
		"?server=plain": 2, "?server=secure": 6, "?server=other": 0,
		"?upstream=" + u.Addr().String(): 4, "?upstream=127.0.0.1:1": 0, "?path=/app&server=plain": 1,
	} {
		if got := p.listed(t, query); len(got) != want {
			t.Errorf("%s: %d sessions, want %d", query, len(got), want)
		}
	}
	for filter, rule := range map[string]string{
		"mode=bogus":             "mode 'bogus': it must be echo or passthrough",
		"mode=Echo":              "mode 'Echo': it must be echo or passthrough",
		"client_ip=localhost":    "client_ip 'localhost': it must be an IP address",
		"client_ip=127.0.0.1:80": "client_ip '127.0.0.1:80': it must be an IP address",
		"host=https://localhost": "host 'https://localhost': it must be a host",
		"path=app":               "path 'app': it must begin with a slash",
		"upstream=http://a:1":    "upstream 'http://a:1': it must be an address",
	} {
		for _, method := range []string{http.MethodGet, http.MethodDelete} {
			status, answer, err := p.call(method, "/websocket/sessions?"+filter, nil)
			if err != nil || status != http.StatusBadRequest || !strings.Contains(answer, rule) {
				t.Errorf("%s %s: status %d, %v: %s", method, filter, status, err, answer)
			}
		}
	}
	p.closes(t, "?mode=echo&host="+url.QueryEscape("127.0.0.1:"+secure), 3)
}

func TestFilterHost(t *testing.T) {
	for _, c := range []struct {
		host, port string // of the session
		filter     string
		want       bool
	}{
		{"example.com", "443", "example.com", true},
		{"example.com", "443", "Example.COM", true},
		{"example.com", "443", "EXAMPLE.com:443", true},
		{"example.com", "443", "example.com:80", false},
		{"example.com", "443", "www.example.com", false},
		{"::1", "8443", "[::1]:8443", true},
		{"::1", "8443", "[::1]", true},
		{"::1", "8443", "::1", true},
		{"::1", "8443", "[::1]:443", false},
	} {
		s := &session{handshake: handshake{host: c.host, port: c.port}}
		value, err := parseHost(c.filter)
		if got := s.hasHost(value); err != nil || got != c.want {
			t.Errorf("%s of %s port %s: %t, %v, want %t", c.filter, c.host, c.port, got, err, c.want)
		}
	}
}
