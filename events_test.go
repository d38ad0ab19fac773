package caddywebsocket

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// eventLog is an event handler that keeps what it was told.
type eventLog struct{}

var events struct {
	mu   sync.Mutex
	told []caddy.Event
}

func (eventLog) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.test", New: func() caddy.Module { return new(eventLog) }}
}

func (eventLog) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	return nil
}

func (eventLog) Handle(_ context.Context, e caddy.Event) error {
	events.mu.Lock()
	defer events.mu.Unlock()
	events.told = append(events.told, e)
	return nil
}

func init() { caddy.RegisterModule(eventLog{}) }

func TestEvents(t *testing.T) {
	s := startGlobal(t, "events {\non websocket_open test\non websocket_close test\n}", "websocket")
	events.told = nil
	p := s.dial(t, "http2", "/some/path")
	p.echo(opText, "hello")
	s.reload(t, "", "websocket\nheader X-Config new")
	p.bye() // the handlers of its own config are told
	s.logs.await(t, "socket closed", 1)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		events.mu.Lock()
		n := len(events.told)
		events.mu.Unlock()
		if n >= 2 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	events.mu.Lock()
	defer events.mu.Unlock()
	if len(events.told) != 2 {
		t.Fatalf("%d events, want 2", len(events.told))
	}
	opened, closed := events.told[0], events.told[1]
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
