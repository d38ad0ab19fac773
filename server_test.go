package caddywebsocket

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/quic-go/quic-go/http3"
	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"

	_ "github.com/seed-21dbdb71/caddy-websocket/http2"
)

// A server is Caddy in this process with one site on plain HTTP and on HTTPS.
type server struct {
	plain, secure string // addresses
	logs          *logBuffer
	name          string  // of logs
	shared        *shared // nil: each HTTP/2 and HTTP/3 socket has a connection of its own
}

var servers atomic.Int64

// start runs Caddy with a site of the given directives until the test ends.
func start(t testing.TB, site string) *server {
	t.Helper()
	return startGlobal(t, "", site)
}

// startGlobal is start with global options.
func startGlobal(t testing.TB, global, site string) *server {
	t.Helper()
	s := &server{logs: new(logBuffer), name: fmt.Sprintf("%s#%d", t.Name(), servers.Add(1))}
	logBuffers.Store(s.name, s.logs)
	s.reload(t, global, site)
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Errorf("stopping: %v", err)
		}
		logBuffers.Delete(s.name)
	})
	return s
}

// reload replaces the config; addresses stay.
func (s *server) reload(t testing.TB, global, site string) {
	t.Helper()
	s.load(t, config(t, s.name, global, site))
}

// load is reload with a config in JSON.
func (s *server) load(t testing.TB, config []byte) {
	t.Helper()
	if err := caddy.Load(config, true); err != nil {
		t.Fatalf("loading: %v", err)
	}
	app, err := caddy.ActiveContext().App("http")
	if err != nil {
		t.Fatal(err)
	}
	servers := app.(*caddyhttp.App).Servers
	s.plain = servers["plain"].Listeners()[0].Addr().String()
	s.secure = servers["secure"].Listeners()[0].Addr().String()
}

// config is the JSON of a config in which the site is served on a port of its
// own with and without TLS.
func config(t testing.TB, logs, global, site string) []byte {
	t.Helper()
	cert, key := certificate()
	const head = `{
		admin off
		persist_config off
		auto_https off
		log {
			output test "%s"
			level DEBUG
		}
		%s
	}
	`
	adapt := func(body string) (cfg struct {
		Logging json.RawMessage `json:"logging"`
		Apps    map[string]json.RawMessage
	}, servers map[string]json.RawMessage,
	) {
		t.Helper()
		data, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt(
			fmt.Appendf(nil, head+body, logs, global), nil)
		if err != nil {
			t.Fatalf("adapting: %v", err)
		}
		for _, w := range warnings {
			if !strings.Contains(w.Message, "not formatted") {
				t.Fatalf("adapting: %v", w)
			}
		}
		if err := json.Unmarshal(data, &cfg); err != nil {
			t.Fatal(err)
		}
		var app struct{ Servers map[string]json.RawMessage }
		if err := json.Unmarshal(cfg.Apps["http"], &app); err != nil {
			t.Fatal(err)
		}
		return cfg, app.Servers
	}
	_, plain := adapt("http://:0 {\nbind 127.0.0.1\n" + site + "\n}")
	cfg, secure := adapt(fmt.Sprintf("https://:0 {\nbind localhost\ntls %s %s\n%s\n}", cert, key, site))

	var app map[string]json.RawMessage
	if err := json.Unmarshal(cfg.Apps["http"], &app); err != nil {
		t.Fatal(err)
	}
	app["servers"] = mustJSON(map[string]json.RawMessage{"plain": plain["srv0"], "secure": secure["srv0"]})
	cfg.Apps["http"] = mustJSON(app)
	return mustJSON(map[string]any{
		"admin":   map[string]any{"disabled": true, "config": map[string]any{"persist": false}},
		"logging": cfg.Logging,
		"apps":    cfg.Apps,
	})
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

// onEveryProtocol runs f on all protocols, over one server with the given site.
func onEveryProtocol(t *testing.T, site string, f func(t *testing.T, s *server, protocol string)) {
	t.Helper()
	s := start(t, site)
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) { f(t, s, protocol) })
	}
}

// fetch sends a plain request over the named protocol.
func (s *server) fetch(t *testing.T, protocol, method, path string, header ...string) (*http.Response, string) {
	t.Helper()
	url := "https://" + s.secure
	var transport http.RoundTripper
	switch protocol {
	case "http1":
		url = "http://" + s.plain
		transport = &http.Transport{DisableCompression: true, DisableKeepAlives: true}
	case "tls":
		transport = &http.Transport{DisableCompression: true, DisableKeepAlives: true, TLSClientConfig: insecure("http/1.1")}
	case "http2":
		h2 := &http.Transport{DisableCompression: true, ForceAttemptHTTP2: true, TLSClientConfig: insecure("h2")}
		defer h2.CloseIdleConnections()
		transport = h2
	case "http3":
		url = "https://" + s.h3Address(t)
		h3 := &http3.Transport{DisableCompression: true, TLSClientConfig: insecure()}
		defer h3.Close()
		transport = h3
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

// dialAll opens a socket on each protocol.
func (s *server) dialAll(t *testing.T) []*peer {
	t.Helper()
	var peers []*peer
	for _, protocol := range protocols {
		p := s.dial(t, protocol, "/")
		p.echo(ws.OpText, "hello")
		peers = append(peers, p)
	}
	return peers
}
