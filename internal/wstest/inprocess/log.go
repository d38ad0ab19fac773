package inprocess

import (
	"io"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// testLog is a log writer for Caddy that writes to a test's [wstest.LogBuffer].
type testLog struct {
	Test string `json:"test"`
}

func (testLog) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.logging.writers.test", New: func() caddy.Module { return new(testLog) }}
}

func (l *testLog) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&l.Test) {
		return d.ArgErr()
	}
	return nil
}

func (l testLog) String() string { return "test " + l.Test }

func (l testLog) WriterKey() string { return "test:" + l.Test }

func (l testLog) OpenWriter() (io.WriteCloser, error) { return wstest.LogOf(l.Test) }
