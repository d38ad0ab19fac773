package examples

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// A program of Node's runs until the test ends, which reads what it says.
type program struct {
	cmd    *exec.Cmd
	input  io.Writer
	lines  *bufio.Scanner
	stderr wstest.LogBuffer
}

// startNode runs a program of Node's that has its packages in dir.
func startNode(t *testing.T, dir, pack string, args ...string) *program {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		wstest.SkipWithout(t, "node in the PATH")
	}
	if _, err := os.Stat(dir + "/node_modules/" + pack); err != nil {
		wstest.SkipWithout(t, "the package "+pack+" for Node: run npm ci --prefix "+dir)
	}
	ctx, stop := context.WithTimeout(context.Background(), 3*wstest.Timeout)
	p := &program{cmd: exec.CommandContext(ctx, node, args...)}
	p.cmd.Env = append(os.Environ(), "PORT=0", "NO_COLOR=1")
	p.cmd.Stderr = &p.stderr
	output, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.lines = bufio.NewScanner(output)
	if p.input, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		p.cmd.Wait()
	})
	return p
}

// await reads up to a line that contains text, and gives that.
func (p *program) await(t *testing.T, text string) string {
	t.Helper()
	var said strings.Builder
	for p.lines.Scan() {
		if strings.Contains(p.lines.Text(), text) {
			return p.lines.Text()
		}
		fmt.Fprintln(&said, p.lines.Text())
	}
	t.Fatalf("the program ended without %q:\n%s%s", text, said.String(), p.stderr.String())
	return ""
}

// expectEnd makes sure that the program ends well.
func (p *program) expectEnd(t *testing.T) {
	t.Helper()
	for p.lines.Scan() {
		t.Log(p.lines.Text())
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, p.stderr.String())
	}
}

func TestExampleSocketIO(t *testing.T) {
	t.Parallel()
	server := startNode(t, "socket.io", "socket.io", "socket.io/server.js")
	_, upstream, _ := strings.Cut(server.await(t, "listening on "), "listening on ")
	replacements := []string{
		"http://localhost:8080 {", "http://localhost:0 {\nlog", "localhost:3000", upstream,
		"keepalive 20s", "keepalive 100ms 1m",
	}
	p := startExample(t, "socket.io", replacements...)
	client := startNode(t, "../testdata/node", "socket.io-client", "../testdata/node/socket.io.js", "http://"+p.Plain)
	client.await(t, "ready")
	replacements[1] = strings.Replace(replacements[1], "localhost:0", p.Plain, 1) // polling goes on there
	replacements = append(replacements, "allowed_origins self", "allowed_origins null")
	if err := p.Post("/load", exampleConfig(t, p, "socket.io", replacements...)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(client.input, "reloaded")
	client.await(t, "unharmed")
	p.Terminate(t)
	client.expectEnd(t)
	p.ExpectExit(t)

	requests := make(map[string]int)
	for _, e := range p.Stderr.Entries("handled request") {
		_, isSocket := e["websocket"]
		uri := e["request"].(map[string]any)["uri"].(string)
		transport := "polling"
		if strings.Contains(uri, "transport=websocket") {
			transport = "websocket"
		}
		if isSocket != (transport == "websocket") {
			t.Errorf("of %s, the access log has a socket: %v", uri, isSocket)
		}
		// 499: a client gives its last poll up when it has a socket, or when it goes.
		if status := e["status"]; isSocket && status != 101.0 || !isSocket && status != 200.0 && status != 499.0 {
			t.Errorf("status %v for %s", status, uri)
		}
		requests[transport]++
	}
	if requests["websocket"] != 3 || requests["polling"] == 0 {
		t.Errorf("%v in the access log, want 3 sockets and some polling", requests)
	}
}
