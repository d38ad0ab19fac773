package caddywebsocket

import (
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// Handlers of a config that is not loaded any more are forgotten.
func TestGuardIsForgotten(t *testing.T) {
	s := wstest.Start(t, "websocket")
	ctx := caddy.ActiveContext()
	app, err := ctx.App("http")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := guarded.Load(app); !ok {
		t.Fatal("no guard")
	}
	s.Reload(t, "", "respond 204")
	if _, ok := guarded.Load(app); ok {
		t.Error("the guard is still there after a reload")
	}
}
