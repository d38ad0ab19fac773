// Package controls holds the tests of echo sockets that behave as their clients ask for.
package controls

import (
	"testing"

	_ "github.com/seed-21dbdb71/caddy-websocket"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

func TestMain(m *testing.M) { wstest.Main(m) }
