package caddywebsocket

import (
	"testing"
)

// The origins of apps and devices get in as they are sent.
func TestOriginsOfApps(t *testing.T) {
	const options = "allowed_origins file:// qrc:// app://x wss://app.example moz-extension://* http://192.168.4.1/ws\nrequire_origin"
	onEveryProtocol(t, "websocket {\n"+options+"\n}\nrespond /no-socket 204", func(t *testing.T, s *server, protocol string) {
		for origin, want := range map[string]bool{
			"file://": true, "qrc://": true, "app://x": true, "wss://app.example": true, "http://192.168.4.1/ws": true,
			"moz-extension://0a1b2c3d-0000-4000-8000-00000000000f": true,
			"file://x": false, "app://y": false, "https://app.example": false, "http://192.168.4.1": false, "null": false,
		} {
			p := s.attempt(t, protocol, "/", "Origin", origin)
			if refused := p.res.StatusCode == 403; refused == want {
				t.Errorf("%s: status %d", origin, p.res.StatusCode)
			}
		}
	})
}
