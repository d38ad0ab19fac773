package wstest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/quic-go/quic-go/http3"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// A Server is Caddy, in this process or another, with one site on plain HTTP and on HTTPS.
type Server struct {
	Plain, Secure string     // addresses; a reload gives a Process new ones
	moving        sync.Mutex // guards them against that, in Addresses
	Logs          *LogBuffer
	LogName       string  // for Config
	shared        *shared // nil: each HTTP/2 and HTTP/3 socket has a connection of its own
}

// Addresses returns Plain and Secure, also during a reload.
func (s *Server) Addresses() (plain, secure string) {
	s.moving.Lock()
	defer s.moving.Unlock()
	return s.Plain, s.Secure
}

var servers atomic.Int64

// Start runs Caddy with a site of the given directives until the test ends.
func Start(t testing.TB, site string) *Server {
	t.Helper()
	return StartGlobal(t, "", site)
}

// StartGlobal is Start with global options.
func StartGlobal(t testing.TB, global, site string) *Server {
	t.Helper()
	s := &Server{Logs: new(LogBuffer), LogName: fmt.Sprintf("%s#%d", t.Name(), servers.Add(1))}
	logBuffers.Store(s.LogName, s.Logs)
	s.Reload(t, global, site)
	t.Cleanup(func() {
		if err := InProcess.Stop(); err != nil {
			t.Errorf("stopping: %v", err)
		}
		logBuffers.Delete(s.LogName)
	})
	return s
}

// Reload replaces the config; addresses stay.
func (s *Server) Reload(t testing.TB, global, site string) {
	t.Helper()
	s.Load(t, Config(t, s.LogName, global, site))
}

// Load is Reload with a config in JSON.
func (s *Server) Load(t testing.TB, config []byte) {
	t.Helper()
	var err error
	if s.Plain, s.Secure, err = inProcess(t).Load(config); err != nil {
		t.Fatalf("loading: %v", err)
	}
}

// Config is the JSON of a config in which the site is served on a port of its
// own with and without TLS, and which logs to the named buffer if there is one.
func Config(t testing.TB, logs, global, site string) []byte {
	t.Helper()
	cert, key := Certificate()
	const head = `{
		admin off
		persist_config off
		auto_https off
		%s
		%s
	}
	`
	log := ""
	if logs != "" {
		log = fmt.Sprintf("log {\noutput test %q\nlevel DEBUG\n}", logs)
	}
	adapt := func(body string) (cfg struct {
		Logging json.RawMessage `json:"logging"`
		Apps    map[string]json.RawMessage
	}, servers map[string]json.RawMessage,
	) {
		t.Helper()
		data, warnings := Adapt(t, fmt.Appendf(nil, head+body, log, global))
		for _, w := range warnings {
			if !strings.Contains(w, "not formatted") {
				t.Fatalf("adapting: %s", w)
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
	app["servers"] = JSON(map[string]json.RawMessage{"plain": plain["srv0"], "secure": secure["srv0"]})
	cfg.Apps["http"] = JSON(app)
	return JSON(map[string]any{
		"admin":   map[string]any{"disabled": true, "config": map[string]any{"persist": false}},
		"logging": cfg.Logging,
		"apps":    cfg.Apps,
	})
}

// SideBySide runs f on all protocols at once, and returns when it has ended on all of them.
func SideBySide(t *testing.T, f func(t *testing.T, protocol string)) {
	t.Helper()
	t.Run("on", func(t *testing.T) { // which ends when its parallel subtests have
		for _, protocol := range Protocols {
			t.Run(protocol, func(t *testing.T) {
				t.Parallel()
				f(t, protocol)
			})
		}
	})
}

// OnEveryProtocol is SideBySide over one server with the given site.
func OnEveryProtocol(t *testing.T, site string, f func(t *testing.T, s *Server, protocol string)) {
	t.Helper()
	s := Start(t, site)
	SideBySide(t, func(t *testing.T, protocol string) { f(t, s, protocol) })
}

// Fetch sends a plain request over the named protocol.
func (s *Server) Fetch(t *testing.T, protocol, method, path string, header ...string) (*http.Response, string) {
	t.Helper()
	url := "https://" + s.Secure
	var transport http.RoundTripper
	switch protocol {
	case "http1":
		url = "http://" + s.Plain
		transport = &http.Transport{DisableCompression: true, DisableKeepAlives: true}
	case "tls":
		transport = &http.Transport{DisableCompression: true, DisableKeepAlives: true, TLSClientConfig: InsecureTLS("http/1.1")}
	case "http2":
		h2 := &http.Transport{DisableCompression: true, ForceAttemptHTTP2: true, TLSClientConfig: InsecureTLS("h2")}
		defer h2.CloseIdleConnections()
		transport = h2
	case "http3":
		url = "https://" + s.HTTP3Address(t)
		h3 := &http3.Transport{DisableCompression: true, TLSClientConfig: InsecureTLS()}
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

// DialAll opens a socket on each protocol.
func (s *Server) DialAll(t *testing.T) []*Peer {
	t.Helper()
	var peers []*Peer
	for _, protocol := range Protocols {
		p := s.Dial(t, protocol, "/")
		p.Echo(ws.OpText, "hello")
		peers = append(peers, p)
	}
	return peers
}
