package caddywebsocket

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"testing"
)

// skipWithout skips a test that needs what this machine doesn't have. In CI,
// where nothing may be missing, it fails the test.
func skipWithout(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("not found: %s", what)
	}
	t.Skipf("not found: %s", what)
}

// startForOthers is start for clients in other processes. Caddy may start its
// HTTP app before its TLS app. Both have started when start returns, but nothing
// that another process sends tells the race detector so: a request from here does.
func startForOthers(t *testing.T, site string) *server {
	t.Helper()
	s := start(t, site)
	s.attempt(t, "http1", "/")
	return s
}

func TestBrowser(t *testing.T) {
	chromium := findChromium(t)
	for _, c := range []struct {
		name, scheme string
		address      func(*server) string
		// What the browser's handshakes are.
		proto, method string
		status        float64
	}{
		{"http1", "http", func(s *server) string { return s.plain }, "HTTP/1.1", http.MethodGet, 101},
		{"http2", "https", func(s *server) string { return s.secure }, "HTTP/2.0", http.MethodConnect, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			posted := make(chan []byte, 1)
			collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				posted <- body
			}))
			t.Cleanup(collector.Close)
			s := startForOthers(t, fmt.Sprintf(browserSite, collector.Listener.Addr()))

			var results []struct{ Name, Error string }
			data := browse(t, chromium, c.scheme+"://"+c.address(s)+"/page.html", posted)
			if err := json.Unmarshal(data, &results); err != nil || len(results) == 0 {
				t.Fatalf("results of the page are %q: %v", data, err)
			}
			for _, r := range results {
				if r.Error != "" {
					t.Errorf("%s: %s", r.Name, r.Error)
				}
			}
			for _, e := range s.logs.await(t, "handled request", len(results)) {
				request := e["request"].(map[string]any)
				status := c.status
				if request["uri"] == "/ws/elsewhere" {
					status = http.StatusForbidden
				}
				if request["proto"] != c.proto || request["method"] != c.method || e["status"] != status {
					t.Errorf("handshake at %v is %v on %v with status %v, want %v on %v with status %v",
						request["uri"], request["method"], request["proto"], e["status"], c.method, c.proto, status)
				}
			}
		})
	}
}

// browserSite is a site with the page and the sockets that it opens, of which
// each case has one. Nothing else is in the access log.
const browserSite = `
	log
	@page not path /ws/*
	log_skip @page
	websocket /ws/echo {
		allowed_origins self
	}
	websocket /ws/chat {
		subprotocols a b
	}
	websocket /ws/compressed {
		compression on
	}
	websocket /ws/elsewhere {
		allowed_origins https://example.com
	}
	websocket /ws/limited {
		max_message_size 1KiB
	}
	reverse_proxy /results %s
	root testdata/browser
	file_server
`

func findChromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	skipWithout(t, "chromium, chromium-browser or google-chrome in the PATH")
	return ""
}

// browse opens a page in Chromium until something has been posted.
func browse(t *testing.T, chromium, url string, posted <-chan []byte) []byte {
	t.Helper()
	// A browser that had to be killed may still write to its profile, which would
	// fail a test that removes it.
	profile, err := os.MkdirTemp(tempDir, "chromium")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 3*patience) // a first start reads much from the disk
	defer stop()
	cmd := exec.CommandContext(ctx, chromium,
		"--headless",
		"--no-sandbox", // which needs what containers lack
		"--disable-gpu",
		"--disable-quic", // HTTP/2 is wanted
		"--no-first-run",
		"--disable-background-networking",
		"--disable-component-update",
		"--disable-sync",
		"--ignore-certificate-errors",
		"--enable-logging=stderr", // what the page logs, too
		"--user-data-dir="+profile,
		url)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = patience
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// All processes of the browser hold its output open, so that Wait returns
	// when the last of them has ended.
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	select {
	case data := <-posted:
		stop()
		<-exited
		return data
	case err := <-exited:
		t.Fatalf("nothing was posted: %v\n%s", err, output.Bytes())
		return nil
	}
}
