package console_test

import (
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

func TestMain(m *testing.M) { wstest.Main(m) }
