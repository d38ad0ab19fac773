// Package interop holds the tests with WebSocket clients and servers of other makers.
package interop

import (
	"testing"

	_ "github.com/seed-21dbdb71/caddy-websocket"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

func TestMain(m *testing.M) { wstest.Main(m) }
