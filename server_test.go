package caddywebsocket

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

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

func mustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

// certificate makes a certificate for 127.0.0.1 and localhost, once, and gives
// the names of its files.
var certificate = sync.OnceValues(func() (cert, key string) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		panic(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		panic(err)
	}
	cert, key = filepath.Join(tempDir, "cert.pem"), filepath.Join(tempDir, "key.pem")
	for name, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: der},
		key:  {Type: "PRIVATE KEY", Bytes: pkcs8},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			panic(err)
		}
	}
	return cert, key
})

// insecure is a client's TLS config for certificate.
func insecure(protocols ...string) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", NextProtos: protocols}
}

// A logBuffer holds what Caddy logs in one test.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) Close() error { return nil }

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// entries are the log entries with the given message.
func (b *logBuffer) entries(msg string) []map[string]any {
	b.mu.Lock()
	defer b.mu.Unlock()
	var entries []map[string]any
	for line := range bytes.Lines(b.buf.Bytes()) {
		var e map[string]any
		if json.Unmarshal(line, &e) == nil && e["msg"] == msg {
			entries = append(entries, e)
		}
	}
	return entries
}

// await waits for n log entries with the given message.
func (b *logBuffer) await(t *testing.T, msg string, n int) []map[string]any {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		if entries := b.entries(msg); len(entries) >= n {
			return entries
		}
		select {
		case <-deadline:
			t.Fatalf("%d entries %q in the log, want %d", len(b.entries(msg)), msg, n)
		case <-time.After(time.Millisecond):
		}
	}
}

// logBuffers are those of the tests under way, by name.
var logBuffers sync.Map

// testLog is a log writer for Caddy that writes to a test's logBuffer.
type testLog struct {
	Test string `json:"test"`
}

func (testLog) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "caddy.logging.writers.test", New: func() caddy.Module { return new(testLog) }}
}

func (l *testLog) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&l.Test) {
		return d.ArgErr()
	}
	return nil
}

func (l testLog) String() string    { return "test " + l.Test }
func (l testLog) WriterKey() string { return "test:" + l.Test }

func (l testLog) OpenWriter() (io.WriteCloser, error) {
	buffer, ok := logBuffers.Load(l.Test)
	if !ok {
		return nil, fmt.Errorf("no test %s", l.Test)
	}
	return buffer.(*logBuffer), nil
}

var tempDir string

func TestMain(m *testing.M) {
	caddy.RegisterModule(testLog{})
	var err error
	if tempDir, err = os.MkdirTemp("", "caddy-websocket"); err != nil {
		panic(err)
	}
	// Whatever of the storage Caddy uses goes there, too.
	os.Setenv("XDG_DATA_HOME", tempDir)
	os.Setenv("XDG_CONFIG_HOME", tempDir)
	code := m.Run()
	os.RemoveAll(tempDir)
	os.Exit(code)
}
