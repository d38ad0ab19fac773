// Package passthrough holds the tests of passthrough through Caddy's real stack, a file for
// each subject.
package passthrough

import (
	"testing"

	_ "github.com/seed-21dbdb71/caddy-websocket"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
	_ "github.com/seed-21dbdb71/caddy-websocket/internal/wstest/inprocess"
)

func TestMain(m *testing.M) { wstest.Main(m) }
