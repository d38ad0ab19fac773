package caddywebsocket

import "testing"

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
		s := &session{handshake: requestInfo{host: c.host, port: c.port}}
		value, err := parseHost(c.filter)
		if got := s.hasHost(value); err != nil || got != c.want {
			t.Errorf("%s of %s port %s: %t, %v, want %t", c.filter, c.host, c.port, got, err, c.want)
		}
	}
}
