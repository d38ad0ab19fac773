package caddywebsocket

import (
	"encoding/json"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

func activeContext() caddy.Context { return caddy.ActiveContext() }

// loadBroken loads a config that fails when its apps start.
func loadBroken(t *testing.T, s *server, site string) error {
	t.Helper()
	var cfg map[string]any
	if err := json.Unmarshal(config(t, s.name, "", site), &cfg); err != nil {
		t.Fatal(err)
	}
	servers := cfg["apps"].(map[string]any)["http"].(map[string]any)["servers"].(map[string]any)
	servers["broken"] = map[string]any{"listen": []string{"192.0.2.1:1"}}
	return caddy.Load(mustJSON(cfg), true)
}
