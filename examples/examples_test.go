package examples

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// startExample runs Caddy with the Caddyfile of an example until the test ends.
// The replacements, of what stands in the file by what the test has in its place,
// give its site the port 0.
func startExample(t *testing.T, name string, replacements ...string) *wstest.Process {
	t.Helper()
	p := wstest.NewProcess(t, "run", "--config", "-")
	p.Cmd.Env = append(p.Cmd.Env, "XDG_DATA_HOME="+t.TempDir()) // two can't make one certificate authority
	p.Cmd.Stdin = bytes.NewReader(exampleConfig(t, p, name, replacements...))
	p.Run(t, func(msg string) bool { return msg == "serving initial configuration" })
	// Sites go by that name.
	p.Plain = strings.Replace(p.Plain, "127.0.0.1", "localhost", 1)
	p.Secure = strings.Replace(p.Secure, "127.0.0.1", "localhost", 1)
	if p.Secure != "" {
		expectCertificate(t, p)
	}
	return p
}

// exampleConfig is the config of an example for a process of the test's: on
// addresses of this machine only, with nothing that needs privileges.
func exampleConfig(t *testing.T, p *wstest.Process, name string, replacements ...string) []byte {
	t.Helper()
	text := wstest.ReadFile(t, name+"/Caddyfile")
	for i := 0; i < len(replacements); i += 2 {
		if !strings.Contains(text, replacements[i]) {
			t.Fatalf("the Caddyfile of %s doesn't have %q", name, replacements[i])
		}
	}
	text = strings.NewReplacer(replacements...).Replace(text)
	data, _ := wstest.Adapt(t, []byte(text))
	var cfg map[string]any
	if err := json.Unmarshal(data, &cfg); err != nil {
		t.Fatal(err)
	}
	cfg["admin"] = map[string]any{"listen": "unix/" + p.AdminSocket, "config": map[string]any{"persist": false}}
	apps := cfg["apps"].(map[string]any)
	apps["pki"] = map[string]any{"certificate_authorities": map[string]any{"local": map[string]any{"install_trust": false}}}
	plain := regexp.MustCompile(`(?m)^http://`).MatchString(text)
	for _, server := range apps["http"].(map[string]any)["servers"].(map[string]any) {
		server := server.(map[string]any)
		port := server["listen"].([]any)[0].(string)
		if port != ":0" && !strings.HasSuffix(p.Plain, port) {
			t.Fatalf("the example listens on %s, want port 0", port)
		}
		if plain {
			server["listen"] = []string{"127.0.0.1" + port}
			continue
		}
		server["listen"] = []string{"localhost" + port}
		server["automatic_https"] = map[string]any{"disable_redirects": true}
	}
	return wstest.JSON(cfg)
}

// expectCertificate waits until the process has made the certificate of its site.
func expectCertificate(t *testing.T, p *wstest.Process) {
	t.Helper()
	for deadline := time.Now().Add(wstest.Timeout); ; time.Sleep(time.Millisecond) {
		conn, err := tls.Dial("tcp", p.Secure, wstest.InsecureTLS())
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no certificate: %v", err)
		}
	}
}
