package examples

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

func TestExampleMetrics(t *testing.T) {
	t.Parallel()
	var prometheus struct {
		ScrapeConfigs []struct {
			JobName        string                       `yaml:"job_name"`
			ScrapeInterval string                       `yaml:"scrape_interval"`
			MetricsPath    string                       `yaml:"metrics_path"`
			StaticConfigs  []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	decoder := yaml.NewDecoder(strings.NewReader(wstest.ReadFile(t, "metrics/prometheus.yml")))
	decoder.KnownFields(true)
	if err := decoder.Decode(&prometheus); err != nil {
		t.Fatal(err)
	}
	scrape := prometheus.ScrapeConfigs[0]
	const admin = "localhost:2019" // by default
	if target := scrape.StaticConfigs[0].Targets[0]; target != admin {
		t.Errorf("Prometheus scrapes %s, want Caddy's admin API at %s", target, admin)
	}

	app := wstest.StartApplication(t)
	p := startExample(t, "metrics", "http://localhost:8080", "http://localhost:0", "localhost:3000", app.Address(),
		"websocket /ws", "websocket /ws {\n"+limits+"\n}")
	p.Dial(t, "http1", "/ws").CloseNormally()
	p.Dial(t, "http1", "/ws").Echo(ws.OpText, "hello")
	p.Dial(t, "http1", "/app").Echo(ws.OpText, "hello")
	var samples string
	for deadline := time.Now().Add(wstest.Timeout); !strings.Contains(samples, "caddy_websocket_"+"closes_total"); {
		status, answer, err := p.Call(http.MethodGet, scrape.MetricsPath, nil)
		if err != nil || status != http.StatusOK || time.Now().After(deadline) {
			t.Fatalf("scraping: status %d, %v", status, err)
		}
		samples = answer
	}
	for _, want := range []string{
		`caddy_websocket_open_sessions{mode="echo",server="srv0",upstream=""} 1`,
		fmt.Sprintf(`caddy_websocket_open_sessions{mode="passthrough",server="srv0",upstream="%s"} 1`, app.Address()),
		fmt.Sprintf(`caddy_websocket_messages_total{direction="received",mode="passthrough",server="srv0",upstream="%s"} 1`, app.Address()),
		`caddy_http_requests_in_flight{handler="subroute",server="srv0"} 2`,
	} {
		if !strings.Contains(samples, "\n"+want+"\n") {
			t.Errorf("the scrape doesn't have %s", want)
		}
	}
	dashboard := wstest.ReadFile(t, "metrics/grafana-dashboard.json")
	for _, name := range regexp.MustCompile("caddy_websocket_"+`\w+`).FindAllString(dashboard, -1) {
		if !strings.Contains(samples, "\n"+name+"{") && !strings.Contains(samples, "\n"+name+" ") {
			t.Errorf("the dashboard asks for %s, which the scrape doesn't have", name)
		}
	}
}
