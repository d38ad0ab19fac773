// Package budget compares what messages, handshakes and idle sockets cost with numbers that
// are kept in testdata/budget.txt. None of them is a time, so they are the same on a slow or busy machine.
package budget

import (
	"testing"

	_ "github.com/seed-21dbdb71/caddy-websocket"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
	_ "github.com/seed-21dbdb71/caddy-websocket/internal/wstest/inprocess"
)

func TestMain(m *testing.M) { wstest.Main(m) }
