// Package fleet holds the tests of closings for all nodes that share a storage.
package fleet

import (
	"testing"

	_ "github.com/seed-21dbdb71/caddy-websocket"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

func TestMain(m *testing.M) { wstest.Main(m) }
