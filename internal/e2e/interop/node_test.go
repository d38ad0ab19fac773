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
			runNode(t, "client.js", c.url)
		})
	}
}

// Node's zlib understands what is compressed with any window and context takeover.
func TestNodeDeflate(t *testing.T) { //nolint:tparallel // other tests run meanwhile
	t.Parallel()
	s := wstest.StartBeside(t, "", "websocket /on {\ncompression on\n}\nwebsocket /takeover {\ncompression on takeover\n}")
	for _, path := range []string{"/on", "/takeover"} {
		t.Run(path, func(t *testing.T) { runNode(t, "deflate.js", "ws://"+s.Plain+path) })
	}
}

// runNode runs a script of testdata/node.
func runNode(t *testing.T, script string, args ...string) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		wstest.SkipWithout(t, "node in the PATH")
	}
	if _, err := os.Stat("../../testdata/node/node_modules/ws"); err != nil {
		wstest.SkipWithout(t, "the ws package for Node: run npm ci --prefix testdata/node")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*wstest.Timeout)
	defer cancel()
	output, err := exec.CommandContext(ctx, node, append([]string{"../../testdata/node/" + script}, args...)...).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}
