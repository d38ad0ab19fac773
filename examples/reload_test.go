package examples

import (
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// A socket stays open while its instance is in the config.
func TestExampleReload(t *testing.T) {
	t.Parallel()
	before, after := startInstance(t), startInstance(t)
	site := []string{"http://localhost:8080", "http://localhost:0", "shutdown_delay 10s", "shutdown_delay 100ms"}
	p := startExample(t, "reload", append(site, "localhost:3000", before.address)...)
	client := dialEcho(t, p)
	reload := func(address, options string) {
		t.Helper()
		config := exampleConfig(t, p, "reload", append(site, "localhost:3000", address, "allowed_origins self", "allowed_origins self\n"+options)...)
		if err := p.Post("/load", config); err != nil {
			t.Fatal(err)
		}
	}
	for _, options := range []string{"keepalive 1h", "max_message_size 1MiB"} {
		reload(before.address, options)
		client.Echo(ws.OpText, "not disturbed")
	}
	reload(after.address, "")
	client.ExpectClose(1012, "")
	client.AnswerClose(1012)
	client.ExpectEnd()
	client.Conn.Close()
	p.Terminate(t)
	p.ExpectExit(t)
}
