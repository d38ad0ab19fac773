package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

func TestNonBrowserOriginsAreLogged(t *testing.T) {
	s := wstest.Start(t, "websocket {\nallowed_origins wss://example.com\n}")
	entries := s.Logs.Entries("browsers never send this origin; if pages are to connect, list the one that browsers send, too")
	if len(entries) != 1 {
		t.Fatalf("%d warnings, want 1", len(entries))
	}
	if e := entries[0]; e["level"] != "warn" || e["allowed_origins"] != "wss://example.com" || e["browsers_send"] != "https://example.com" {
		t.Errorf("logged as %v", e)
	}
}

// What Caddy's own configuration trusts decides.
func TestSelfBehindProxies(t *testing.T) {
	const site = "websocket {\nallowed_origins self\n}\nrespond /no-socket 204"
	chain := []string{
		"X-Forwarded-For", "203.0.113.9, 198.51.100.7, 127.0.0.2", "X-Forwarded-Proto", "http, https, http",
		"X-Forwarded-Host", "evil.example, app.example, internal",
	}
	single := []string{"X-Forwarded-For", "198.51.100.7", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "app.example"}
	for _, test := range []struct {
		name, servers string
		header        []string
		want          bool
	}{
		{"untrusted", "", single, false},
		{"others are trusted", "trusted_proxies static 10.0.0.0/8", single, false},
		{"trusted", "trusted_proxies static 127.0.0.1/8", single, true},
		{"strict", "trusted_proxies static 127.0.0.1/8\ntrusted_proxies_strict", single, true},
		{"chain, strict", "trusted_proxies static 127.0.0.1/8\ntrusted_proxies_strict", chain, true},
		{"chain", "trusted_proxies static 127.0.0.1/8", chain, false},
		{"chain, untrusted", "", chain, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			global := ""
			if test.servers != "" {
				global = "servers {\n" + test.servers + "\n}"
			}
			s := wstest.StartGlobal(t, global, site)
			for _, protocol := range wstest.Protocols {
				p := s.TryDial(t, protocol, "/", append([]string{"Origin", "https://app.example"}, test.header...)...)
				if refused := p.Response.StatusCode == http.StatusForbidden; refused == test.want {
					t.Errorf("%s: status %d", protocol, p.Response.StatusCode)
				}
				p = s.TryDial(t, protocol, "/", append([]string{"Origin", "https://other.example"}, test.header...)...)
				if p.Response.StatusCode != http.StatusForbidden {
					t.Errorf("%s: status %d for another origin", protocol, p.Response.StatusCode)
				}
			}
		})
	}
}

// The origins of apps and devices get in as they are sent.
func TestOriginsOfApps(t *testing.T) {
	const options = "allowed_origins file:// qrc:// app://x wss://app.example moz-extension://* http://192.168.4.1/ws\nrequire_origin"
	wstest.OnEveryProtocol(t, "websocket {\n"+options+"\n}\nrespond /no-socket 204", func(t *testing.T, s *wstest.Server, protocol string) {
		for origin, want := range map[string]bool{
			"file://": true, "qrc://": true, "app://x": true, "wss://app.example": true, "http://192.168.4.1/ws": true,
			"moz-extension://0a1b2c3d-0000-4000-8000-00000000000f": true,
			"file://x": false, "app://y": false, "https://app.example": false, "http://192.168.4.1": false, "null": false,
		} {
			p := s.TryDial(t, protocol, "/", "Origin", origin)
			if refused := p.Response.StatusCode == 403; refused == want {
				t.Errorf("%s: status %d", origin, p.Response.StatusCode)
			}
		}
	})
}

// A Host of the client's choosing opens nothing but the origin of that name.
func TestOriginsOfHost(t *testing.T) {
	s := wstest.Start(t, "websocket {\nallowed_origins https://{http.request.host}\n}\nrespond /no-socket 204")
	for _, test := range []struct {
		host, origin string
		want         bool
	}{
		{"app.example.com", "https://app.example.com", true},
		{"app.example.com", "https://evil.example.com", false},
		{"*.example.com", "https://evil.example.com", false},
		{"*", "https://evil.example.com", false},
		{"evil.example.com:*", "https://evil.example.com:1", false},
	} {
		for _, protocol := range []string{"http1", "http2", "http3"} {
			var got string
			if protocol == "http1" {
				got = strings.Fields(s.SendRequest(t, fmt.Sprintf("GET / HTTP/1.1\r\nHost: %s\r\nOrigin: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
					"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", test.host, test.origin)).ReadLine())[1]
			} else {
				fields := wstest.ConnectFields(s, "CONNECT", "websocket", "/", "origin", test.origin)
				fields[9] = test.host // :authority
				got, _ = s.Ask(t, protocol, false, fields...)
			}
			if allowed := got == "101" || got == "200"; allowed != test.want || !allowed && got != "403" {
				t.Errorf("%s: %s to %s gets %s", protocol, test.origin, test.host, got)
			}
		}
	}
}
