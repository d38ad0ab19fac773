//go:build unix

package caddywebsocket

import (
	"net/http"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

func TestEchoCommand(t *testing.T) {
	p := wstest.NewProcess(t, "websocket-echo", "--listen", "127.0.0.1:0", "--allowed-origin", "https://a.example",
		"--allowed-origin", "https://b.example", "--keepalive", "300ms", "--console", "--test-controls", "--access-log")
	p.Run(t, func(msg string) bool { return msg == "server running" })
	for _, origin := range []string{"-", "https://a.example", "https://b.example"} {
		peer := p.Dial(t, "http1", "/any/path", "Origin", origin)
		peer.Send(ws.OpPong, peer.ExpectPing())
		peer.Send(ws.OpText, "hello")
		for f := peer.ReadFrame(); f.Opcode() != ws.OpText; f = peer.ReadFrame() {
		}
		peer.SendClose(1000, "")
		peer.ExpectCloseAfterPings(1000, "")
		peer.Conn.Close()
	}
	if peer := p.TryDial(t, "http1", "/", "Origin", "https://c.example"); peer.Response.StatusCode != http.StatusForbidden {
		t.Errorf("another origin gets %d, want 403", peer.Response.StatusCode)
	}
	controlled := p.Dial(t, "http1", "/any/path?close=4000&reason=asked")
	controlled.ExpectClose(4000, "asked")
	controlled.Conn.Close()
	for accept, want := range map[string]int{"text/html": 200, "*/*": http.StatusUpgradeRequired} {
		req, _ := http.NewRequest(http.MethodGet, "http://"+p.Plain, nil)
		req.Header.Set("Accept", accept)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s gets %d, want %d", accept, res.StatusCode, want)
		}
	}
	p.Terminate(t)
	p.ExpectExit(t)
	if n := len(p.Stderr.Entries("handled request")); n != 7 {
		t.Errorf("%d entries in the access log, want 7", n)
	}
}

func TestEchoCommandWithDomain(t *testing.T) {
	config := string(wstest.JSON(echoConfig(new(Handler), ":443", "echo.example.com", false)))
	if !strings.Contains(config, `"host":["echo.example.com"]`) {
		t.Errorf("the domain is missing in %s", config)
	}
}

func TestEchoCommandRefusals(t *testing.T) {
	for args, want := range map[string]string{
		"--keepalive 0s":                  "--keepalive '0s': it must be a duration above 0, such as 30s, or off",
		"--keepalive soon":                "keepalive 'soon': it must be",
		"--allowed-origin example.com":    "allowed_origins 'example.com'",
		"--listen 127.0.0.1:0 --colorful": "unknown flag: --colorful",
		"--listen 127.0.0.1:99999":        "invalid",
	} {
		cmd := wstest.NewProcess(t, append([]string{"websocket-echo"}, strings.Fields(args)...)...).Cmd
		cmd.Stdout = nil
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, want %q in\n%s", args, err, want, out)
		}
	}
}
