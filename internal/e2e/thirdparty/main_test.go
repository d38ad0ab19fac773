// Package thirdparty holds the tests with WebSocket clients and servers of other makers.
package thirdparty

import (
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

func TestMain(m *testing.M) {
	wstest.AtOnce = 6 // they compute more than they wait
	wstest.Main(m)
}
