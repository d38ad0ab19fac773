package handshake

import (
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// Apps of configs that are not loaded any more are forgotten.
func TestForget(t *testing.T) {
	app := &caddyhttp.App{Servers: map[string]*caddyhttp.Server{"srv0": new(caddyhttp.Server)}}
	GuardServers(app, nil, zap.NewNop())
	if _, ok := guarded.Load(app); !ok {
		t.Fatal("no guard")
	}
	Forget(app)
	if _, ok := guarded.Load(app); ok {
		t.Error("the app is known although it was forgotten")
	}
}
