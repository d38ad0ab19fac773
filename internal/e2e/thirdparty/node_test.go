package thirdparty

import (
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

// nodePrograms is the folder of programs for Node and of the packages that they need.
const nodePrograms = "../../../testdata/node"

// findNode returns a Node that has the ws package.
func findNode(t *testing.T) string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		wstest.SkipWithout(t, "node in the PATH")
	}
	if _, err := os.Stat(nodePrograms + "/node_modules/ws"); err != nil {
		wstest.SkipWithout(t, "the ws package for Node: run npm ci --prefix testdata/node")
	}
	return node
}

// runNode runs one of the programs.
func runNode(t *testing.T, program string, args ...string) {
	t.Helper()
	output, err := exec.CommandContext(bounded(t), findNode(t), append([]string{nodePrograms + "/" + program}, args...)...).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}

// evalInNode evaluates a promise of reports, with ws's WebSocket.
func evalInNode(t *testing.T, expression string) [][]string {
	t.Helper()
	cmd := exec.CommandContext(bounded(t), findNode(t), "-e", "const WebSocket = require('ws');\n"+
		expression+".then((reports) => process.stdout.write(JSON.stringify(reports), () => process.exit()));")
	cmd.Dir = nodePrograms
	return runJSON(t, cmd)
}
