package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// metricNames is how the names of all metrics begin.
const metricNames = "caddy_websocket_"

// scraped are the samples of ours that the site's /metrics serves, by name and
// labels.
func scraped(t *testing.T, s *wstest.Server) map[string]float64 {
	t.Helper()
	res, err := http.Get("http://" + s.Plain + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %v: %s", res.StatusCode, err, body)
	}
	samples := make(map[string]float64)
	for line := range strings.Lines(string(body)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && strings.HasPrefix(name, metricNames) {
			if samples[name], err = strconv.ParseFloat(value, 64); err != nil {
				t.Fatal(err)
			}
		}
	}
	return samples
}

// scrapedFrom scrapes and gives a function that scrapes again, for what has been
// added. It waits for the sockets of other tests to be gone.
func scrapedFrom(t *testing.T, s *wstest.Server) (added func() map[string]float64) {
	t.Helper()
	for deadline := time.Now().Add(wstest.Timeout); len(wstest.Sessions(t, "")) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("sockets of other tests stay open")
		}
	}
	before := scraped(t, s)
	return func() map[string]float64 {
		t.Helper()
		samples := scraped(t, s)
		for name := range samples {
			samples[name] -= before[name]
		}
		return samples
	}
}

func TestMetrics(t *testing.T) {
	u := wstest.ListenUpstream(t)
	site := "metrics /metrics\nwebsocket /echo {\nmax_connections 2\n}\nwebsocket /pinged {\nkeepalive 20ms 10s\n}\nwebsocket passthrough {\nallowed_origins https://example.com\n}\nreverse_proxy " + u.Addr().String()
	s := wstest.Start(t, site)
	added := scrapedFrom(t, s)
	for _, bad := range [][]string{
		{"/echo", "Sec-WebSocket-Key", "-"},
		{"/echo", "Sec-WebSocket-Version", "7"},
		{"/app", "Origin", "https://elsewhere.example"},
	} {
		s.TryDial(t, "http1", bad[0], bad[1:]...)
	}
	pinged := s.Dial(t, "http1", "/pinged")
	pinged.Send(ws.OpPong, pinged.ExpectPing())
	pinged.SendClose(3333, "")
	pinged.ExpectCloseAfterPings(3333, "")
	pinged.Conn.Close()
	s.Logs.Await(t, "socket closed", 1)

	open := s.Dial(t, "http1", "/echo")
	open.Echo(ws.OpText, "hello")
	app := s.Dial(t, "http1", "/echo")
	app.Echo(ws.OpBinary, "hello, hello")
	s.TryDial(t, "http1", "/echo")
	app.CloseNormally()
	s.Logs.Await(t, "socket closed", 2)
	client, upstream := u.Tunnel(s, "http1", "Origin", "https://example.com")
	client.Send(ws.OpText, "up")
	upstream.ExpectMasked(ws.OpText, "up")

	s.Reload(t, "", site+"\nheader X-Config new") // no count is lost
	open.Echo(ws.OpText, "again")
	got := added()
	upstreamLabel := fmt.Sprintf(`,server="plain",upstream="%s"`, u.Addr())
	for name, want := range map[string]float64{
		`open_sessions{mode="echo",server="plain",upstream=""}`:                                     1,
		`handshakes_total{mode="echo",result="accepted",server="plain",upstream=""}`:                3,
		`handshakes_total{mode="echo",result="malformed",server="plain",upstream=""}`:               1,
		`handshakes_total{mode="echo",result="wrong_version",server="plain",upstream=""}`:           1,
		`handshakes_total{mode="echo",result="too_many",server="plain",upstream=""}`:                1,
		`handshakes_total{mode="echo",result="failed",server="plain",upstream=""}`:                  0,
		`handshakes_total{mode="passthrough",result="accepted"` + upstreamLabel + `}`:               1,
		`handshakes_total{mode="passthrough",result="declined"` + upstreamLabel + `}`:               0,
		`handshakes_total{mode="passthrough",result="origin_forbidden",server="plain",upstream=""}`: 1,
		`messages_total{direction="received",mode="echo",server="plain",upstream=""}`:               3,
		`messages_total{direction="sent",mode="echo",server="plain",upstream=""}`:                   3,
		`message_bytes_total{direction="received",mode="echo",server="plain",upstream=""}`:          22,
		`message_bytes_total{direction="sent",mode="echo",server="plain",upstream=""}`:              22,
		`messages_total{direction="received",mode="passthrough"` + upstreamLabel + `}`:              1,
		`message_bytes_total{direction="received",mode="passthrough"` + upstreamLabel + `}`:         2,
		`messages_total{direction="sent",mode="passthrough"` + upstreamLabel + `}`:                  0,
		`closes_total{cause="client",code="1000",mode="echo",server="plain",upstream=""}`:           1,
		`closes_total{cause="client",code="other",mode="echo",server="plain",upstream=""}`:          1,
		`session_duration_seconds_count{mode="echo",server="plain",upstream=""}`:                    2,
		`ping_rtt_seconds_count{mode="echo",server="plain",upstream=""}`:                            1,
	} {
		if got[metricNames+name] != want {
			t.Errorf("%s is %v, want %v", name, got[metricNames+name], want)
		}
	}
}

// Passthrough answers that are no sockets count as such.
func TestMetricsOfDeclined(t *testing.T) {
	s := wstest.Start(t, "metrics /metrics\nwebsocket passthrough {\nallowed_origins *\n}\nrespond /app 418")
	added := scrapedFrom(t, s)
	s.TryDial(t, "http1", "/app")
	if got := added()[metricNames+`handshakes_total{mode="passthrough",result="declined",server="plain",upstream=""}`]; got != 1 {
		t.Errorf("declined is %v, want 1", got)
	}
}

func TestMetricsLint(t *testing.T) {
	wstest.Start(t, "websocket")
	ctx := caddy.ActiveContext()
	problems, err := testutil.GatherAndLint(ctx.GetMetricsRegistry())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, metricNames) {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// A panel is one of the dashboard's.
type panel struct {
	Title   string
	Targets []struct{ Expr, LegendFormat string }
}

func readDashboard(t *testing.T) []panel {
	t.Helper()
	var dashboard struct{ Panels []panel }
	if err := json.Unmarshal([]byte(wstest.ReadFile(t, "../../examples/metrics/grafana-dashboard.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	return dashboard.Panels
}

// Every query of the dashboard asks for metrics and labels that there are.
func TestDashboard(t *testing.T) {
	panels := readDashboard(t)
	s := wstest.Start(t, "metrics /metrics\nwebsocket {\nmessage_rate 100 1s\nrecheck 1m {\nrespond 204\n}\n}")
	p := s.Dial(t, "http1", "/")
	p.CloseNormally()
	s.Logs.Await(t, "socket closed", 1)
	labels := make(map[string]map[string]bool) // by metric
	for sample := range scraped(t, s) {
		name, rest, _ := strings.Cut(sample, "{")
		if labels[name] == nil {
			labels[name] = make(map[string]bool)
		}
		for _, m := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(rest, -1) {
			labels[name][m[1]] = true
		}
	}
	metric := regexp.MustCompile(`caddy_websocket_\w+`)
	used := regexp.MustCompile(`by \(([^)]*)\)|(\w+)=~?"|{{(\w+)}}`)
	queried := make(map[string]bool)
	for _, panel := range panels {
		if len(panel.Targets) == 0 {
			t.Errorf("panel %q asks for nothing", panel.Title)
		}
		for _, target := range panel.Targets {
			names := metric.FindAllString(target.Expr, -1)
			if len(names) == 0 {
				t.Errorf("panel %q: no metric of ours in %s", panel.Title, target.Expr)
			}
			known := map[string]bool{"instance": true} // Prometheus's own
			for _, name := range names {
				queried[strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count")] = true
				if labels[name] == nil {
					t.Errorf("panel %q: there is no metric %s", panel.Title, name)
				}
				maps.Copy(known, labels[name])
			}
			for _, m := range used.FindAllStringSubmatch(target.Expr+target.LegendFormat, -1) {
				for label := range strings.FieldsFuncSeq(m[1]+m[2]+m[3], func(r rune) bool { return r == ',' || r == ' ' }) {
					if !known[label] {
						t.Errorf("panel %q: no label %s in %s", panel.Title, label, target.Expr)
					}
				}
			}
		}
	}
	for _, name := range []string{"open_sessions", "handshakes_total", "messages_total", "message_bytes_total", "closes_total", "session_duration_seconds", "ping_rtt_seconds", "rechecks_total", "rate_delay_seconds_total"} {
		if !queried[metricNames+name] {
			t.Errorf("no panel shows %s", name)
		}
	}
}
