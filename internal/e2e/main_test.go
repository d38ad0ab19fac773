// Package e2e holds the tests through Caddy's real stack, a file for each subject.
package e2e

import (
	"testing"

	_ "github.com/seed-21dbdb71/caddy-websocket"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
	_ "github.com/seed-21dbdb71/caddy-websocket/internal/wstest/inprocess"
)

func TestMain(m *testing.M) { wstest.Main(m) }
