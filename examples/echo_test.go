package examples

import (
	"net/http"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

func TestExampleEcho(t *testing.T) { //nolint:tparallel // other tests run meanwhile
	t.Parallel()
	p := startExample(t, "echo", "echo.example.com", "localhost:0")
	for i, protocol := range wstest.Protocols[1:] {
		t.Run(protocol, func(t *testing.T) {
			client := p.Dial(t, protocol, "/ws", "Origin", "https://elsewhere.example")
			client.Echo(ws.OpText, "hello")
			client.CloseNormally()
			for _, e := range p.Stderr.Await(t, "handled request", i+1) {
				socket, ok := e["websocket"].(map[string]any)
				if !ok {
					continue // of the request that asks where HTTP/3 is
				}
				if socket["messages_received"] != 1.0 || socket["close_code"] != 1000.0 || socket["closed_by"] != "client" {
					t.Errorf("the access log has %v", socket)
				}
			}
		})
	}
	for _, c := range []struct{ path, accept, content string }{
		{"/ws", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8", "text/html; charset=utf-8"},
		{"/", "*/*", "text/plain; charset=utf-8"},
	} {
		res, _ := p.Fetch(t, "http2", http.MethodGet, c.path, "Accept", c.accept)
		if got := res.Header.Get("Content-Type"); res.StatusCode != http.StatusOK || got != c.content {
			t.Errorf("%s: status %d, %s, want 200, %s", c.path, res.StatusCode, got, c.content)
		}
	}
}
