// Package logins holds the tests of sockets that end with the login behind them.
package logins

import (
	"testing"

	_ "github.com/seed-21dbdb71/caddy-websocket"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

func TestMain(m *testing.M) { wstest.Main(m) }
