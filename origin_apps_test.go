package caddywebsocket

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

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
