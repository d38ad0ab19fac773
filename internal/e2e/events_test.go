package e2e

import (
	"context"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// eventLog is an event handler that passes on what it is told.
type eventLog struct{}

var events = make(chan caddy.Event, 16)

func (eventLog) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.test", New: func() caddy.Module { return new(eventLog) }}
}

func (eventLog) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	return nil
}

func (eventLog) Handle(_ context.Context, e caddy.Event) error {
	events <- e
	return nil
}

func init() { caddy.RegisterModule(eventLog{}) }

func TestEvents(t *testing.T) {
	s := wstest.StartGlobal(t, "events {\non websocket_open test\non websocket_close test\n}", "websocket")
	p := s.Dial(t, "http2", "/some/path")
	p.Echo(ws.OpText, "hello")
	s.Reload(t, "", "websocket\nheader X-Config new")
	p.CloseNormally() // the handlers of its own config are told
	opened, closed := <-events, <-events
	if opened.Name() != "websocket_open" || closed.Name() != "websocket_close" || opened.Data["id"] != closed.Data["id"] {
		t.Errorf("events %s of %v, %s of %v", opened.Name(), opened.Data["id"], closed.Name(), closed.Data["id"])
	}
	for name, want := range map[string]any{
		"mode": "echo", "path": "/some/path", "proto": "HTTP/2.0", "client_ip": "127.0.0.1",
		"close_code": int64(1000), "closed_by": "client", "messages_received": int64(1),
	} {
		if closed.Data[name] != want {
			t.Errorf("%s is %v, want %v", name, closed.Data[name], want)
		}
	}
}
