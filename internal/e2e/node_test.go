package e2e

import (
	"context"
	"os"
	"os/exec"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

func TestNodeClient(t *testing.T) { //nolint:tparallel // other tests run meanwhile
	t.Parallel()
	node, err := exec.LookPath("node")
	if err != nil {
		wstest.SkipWithout(t, "node in the PATH")
	}
	if _, err := os.Stat("../../testdata/node/node_modules/ws"); err != nil {
		wstest.SkipWithout(t, "the ws package for Node: run npm ci --prefix testdata/node")
	}
	s := wstest.StartBeside(t, "", `
		websocket /ws {
			subprotocols json chat
			compression on
		}`)
	for _, c := range []struct{ name, url string }{
		{"http1", "ws://" + s.Plain + "/ws"},
		{"tls", "wss://" + s.Secure + "/ws"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*wstest.Timeout)
			defer cancel()
			output, err := exec.CommandContext(ctx, node, "../../testdata/node/client.js", c.url).CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, output)
			}
		})
	}
}
