package examples

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest/browser"
)

// startVite runs Vite in a copy of the example, and Caddy in front of it.
func startVite(t *testing.T) (p *wstest.Process, dir string) {
	t.Helper()
	dir, err := os.MkdirTemp(wstest.TempDir, "vite") // Vite may still write to it in the end
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"index.html", "main.js", "message.js", "vite.config.js"} {
		writeFile(t, filepath.Join(dir, name), wstest.ReadFile(t, "vite/"+name))
	}
	vite := startNode(t, "vite", "vite", "vite/node_modules/vite/bin/vite.js",
		dir, "--port", "0", "--host", "127.0.0.1", "--config", filepath.Join(dir, "vite.config.js"))
	address := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(vite.await(t, "Local:"))
	p = startExample(t, "vite", "http://localhost:8080", "http://localhost:0", "localhost:5173", address)
	return p, dir
}

func writeFile(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A browser's page changes with the file that it shows, and isn't loaded again.
func TestExampleViteInBrowser(t *testing.T) {
	t.Parallel()
	p, dir := startVite(t)
	c := browser.NewChromium(t)
	c.Open(t, "http://"+p.Plain+"/")
	c.AwaitText(t, "#message", "Edit message.js.")
	if !c.AwaitComplaint(t, "[vite] connected.") {
		t.Fatal("the page doesn't open its socket")
	}
	c.Eval(t, "window.same = true", nil)
	writeFile(t, filepath.Join(dir, "message.js"), "export const message = 'changed';\n")
	c.AwaitText(t, "#message", "changed")
	browser.WaitFor(t, c, "window.same")
	if n := openSessions(t, p, "vite-hmr"); n != 1 {
		t.Errorf("%d sockets of vite-hmr are open, want the page's", n)
	}
}

// openSessions is how many sockets with the subprotocol Caddy lists.
func openSessions(t *testing.T, p *wstest.Process, subprotocol string) int {
	t.Helper()
	_, answer, err := p.Call(http.MethodGet, "/websocket/sessions?subprotocol="+subprotocol, nil)
	var listed []any
	if err == nil {
		err = json.Unmarshal([]byte(answer), &listed)
	}
	if err != nil {
		t.Fatalf("listing: %v: %s", err, answer)
	}
	return len(listed)
}

// What the page does by hand: a change comes as a message, Vite's page looks for
// its server with vite-ping, and pages of other sites get no socket.
func TestExampleVite(t *testing.T) {
	t.Parallel()
	p, dir := startVite(t)
	var client strings.Builder
	for _, path := range []string{"/@vite/client", "/main.js", "/message.js"} {
		res, body := p.Fetch(t, "http1", http.MethodGet, path)
		if res.StatusCode != http.StatusOK {
			t.Fatalf("%s: status %d", path, res.StatusCode)
		}
		client.WriteString(body)
	}
	token := regexp.MustCompile(`wsToken = "([^"]+)"`).FindStringSubmatch(client.String())
	if token == nil {
		t.Fatal("Vite's client has no token")
	}
	dial := func(subprotocol, origin string) (*websocket.Conn, int) {
		t.Helper()
		dialer := websocket.Dialer{Subprotocols: []string{subprotocol}, HandshakeTimeout: wstest.Timeout}
		conn, res, err := dialer.Dial("ws://"+p.Plain+"/?token="+token[1], http.Header{"Origin": {origin}})
		if res == nil {
			t.Fatal(err)
		}
		if err == nil {
			t.Cleanup(func() { conn.Close() })
			conn.SetReadDeadline(time.Now().Add(wstest.Timeout))
		}
		return conn, res.StatusCode
	}
	if _, status := dial("vite-hmr", "http://elsewhere.example"); status != http.StatusForbidden {
		t.Errorf("a page of another site: status %d, want 403", status)
	}
	ping, status := dial("vite-ping", "http://"+p.Plain)
	if status != http.StatusSwitchingProtocols || ping.Subprotocol() != "vite-ping" {
		t.Fatalf("vite-ping: status %d", status)
	}
	hmr, status := dial("vite-hmr", "http://"+p.Plain)
	if status != http.StatusSwitchingProtocols || hmr.Subprotocol() != "vite-hmr" {
		t.Fatalf("vite-hmr: status %d", status)
	}
	expectViteMessage(t, hmr, "connected")
	writeFile(t, filepath.Join(dir, "message.js"), "export const message = 'changed';\n")
	expectViteMessage(t, hmr, "update")
}

func expectViteMessage(t *testing.T, conn *websocket.Conn, kind string) {
	t.Helper()
	var message struct{ Type string }
	if err := conn.ReadJSON(&message); err != nil || message.Type != kind {
		t.Fatalf("message %q, %v, want %q", message.Type, err, kind)
	}
}
