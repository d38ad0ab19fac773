package examples

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// Every query of the dashboard gets data from a real Prometheus.
func TestExampleMetricsWithPrometheus(t *testing.T) {
	t.Parallel()
	app := wstest.StartApplication(t)
	p := startExample(t, "metrics", "http://localhost:8080", "http://localhost:0", "localhost:3000", app.Address(),
		"websocket /ws", "websocket /ws {\nkeepalive 1s 20s\n"+limits+"\n}")
	address := startPrometheus(t, adminOverTCP(t, p))
	awaitData(t, address, `caddy_websocket_open_sessions == 0`)
	for _, path := range []string{"/ws", "/app"} {
		open := p.Dial(t, "http1", path)
		open.Echo(ws.OpText, "hello")
		if path == "/ws" {
			open.Send(ws.OpPong, open.ExpectPing())
		}
		closed := p.Dial(t, "http1", path)
		closed.SendClose(1000, "")
		closed.ExpectCloseAfterPings(1000, "")
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(wstest.ReadFile(t, "metrics/grafana-dashboard.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	variables := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*", "$server", ".*", "$upstream", ".*")
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			awaitData(t, address, variables.Replace(target.Expr))
		}
	}
	awaitData(t, address, fmt.Sprintf(`caddy_websocket_open_sessions{server="srv0", upstream="%s"} == 1`, app.Address()))
}

// limits are options that have metrics of their own.
const limits = "message_rate 100 1s\nrecheck 1m {\nrespond 204\n}"

// adminOverTCP returns the address of a proxy to the process's admin API, whose Unix socket
// Prometheus can't scrape.
func adminOverTCP(t *testing.T, p *wstest.Process) string {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "caddy"})
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", p.AdminSocket)
	}}
	proxy.Transport = transport
	srv := httptest.NewServer(proxy)
	t.Cleanup(func() {
		srv.Close()
		transport.CloseIdleConnections()
	})
	return srv.Listener.Addr().String()
}

// startPrometheus runs Prometheus with the example's config, but on target and more often,
// and returns its address.
func startPrometheus(t *testing.T, target string) string {
	t.Helper()
	path, err := exec.LookPath("prometheus")
	if err != nil {
		wstest.SkipWithout(t, "prometheus")
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	text := strings.NewReplacer("localhost:2019", target, "scrape_interval: 15s", "scrape_interval: 200ms\n    scrape_timeout: 200ms").
		Replace(wstest.ReadFile(t, "metrics/prometheus.yml"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--config.file", config, "--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", "127.0.0.1:0")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	listening, ended := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		var log strings.Builder
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			fmt.Fprintln(&log, lines.Text())
			if m := regexp.MustCompile(`msg="Listening on" address=(127\.0\.0\.1:\d+)`).FindStringSubmatch(lines.Text()); m != nil {
				listening <- m[1]
			}
		}
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("Prometheus's log:\n%s", log.String())
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	select {
	case address := <-listening:
		return address
	case <-ended:
		t.Fatal("Prometheus doesn't start")
	case <-time.After(wstest.Timeout):
		t.Fatal("Prometheus doesn't listen")
	}
	return ""
}

// awaitData asks Prometheus until a query has a result that is a number.
func awaitData(t *testing.T, address, query string) {
	t.Helper()
	var answer struct {
		Error string
		Data  struct {
			Result []struct{ Value [2]any }
		}
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for deadline := time.Now().Add(wstest.Timeout); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		res, err := client.Get("http://" + address + "/api/v1/query?query=" + url.QueryEscape(query))
		if err != nil {
			t.Fatal(err)
		}
		err = json.NewDecoder(res.Body).Decode(&answer)
		res.Body.Close()
		if err != nil {
			continue // it isn't ready
		}
		if answer.Error != "" {
			t.Fatalf("%s: %s", query, answer.Error)
		}
		for _, sample := range answer.Data.Result {
			if sample.Value[1] != "NaN" {
				return
			}
		}
	}
	t.Errorf("no data for %s: %v", query, answer.Data.Result)
}
