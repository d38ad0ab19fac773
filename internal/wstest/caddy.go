package wstest

import (
	"encoding/json"
	"net/http"
	"sync"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest/executable"
)

// A Caddy runs in the test's own process.
type Caddy interface {
	// Main is Caddy's command line.
	Main()
	// Adapt adapts a Caddyfile.
	Adapt(caddyfile []byte) (config []byte, warnings []string, err error)
	// Load loads a config with the servers "plain" and "secure", and returns where they listen.
	Load(config []byte) (plain, secure string, err error)
	Stop() error
	// ServeAdmin is what the admin API does with a request for sessions.
	ServeAdmin(w http.ResponseWriter, r *http.Request) error
}

// InProcess is the Caddy of package inprocess, if the test binary has that.
var InProcess Caddy

// inProcess is InProcess for a test that can't do without.
func inProcess(t testing.TB) Caddy {
	t.Helper()
	if InProcess == nil {
		t.Fatal("this package's tests have Caddy only in processes of its own; package inprocess changes that")
	}
	return InProcess
}

// Adapt adapts a Caddyfile.
func Adapt(t testing.TB, caddyfile []byte) (config []byte, warnings []string) {
	t.Helper()
	adapt := adaptElsewhere
	if InProcess != nil {
		adapt = func(_ testing.TB, caddyfile []byte) ([]byte, []string, error) { return InProcess.Adapt(caddyfile) }
	}
	config, warnings, err := adapt(t, caddyfile)
	if err != nil {
		t.Fatalf("adapting: %v\n%s", err, caddyfile)
	}
	return config, warnings
}

// adapter is a Caddy that adapts Caddyfiles for all tests of the binary.
var adapter struct {
	sync.Once
	*Process
}

// adaptElsewhere has the admin API of the adapter adapt a Caddyfile.
func adaptElsewhere(t testing.TB, caddyfile []byte) (config []byte, warnings []string, err error) {
	t.Helper()
	adapter.Do(func() { adapter.Process = startAdapter(t) })
	if adapter.Process == nil {
		t.Fatal("Caddy doesn't start")
	}
	var answer struct {
		Warnings []struct{ Message string }
		Result   json.RawMessage
	}
	body, err := adapter.adapt(caddyfile)
	if err == nil {
		err = json.Unmarshal(body, &answer)
	}
	for _, w := range answer.Warnings {
		warnings = append(warnings, w.Message)
	}
	return answer.Result, warnings, err
}

func startAdapter(t testing.TB) *Process {
	t.Helper()
	p := NewProcess(t, "run", "--config", "-")
	p.readConfig(JSON(map[string]any{"admin": p.admin()}))
	AtExit(p.kill) // also if it doesn't get ready
	p.start(t, isServing)
	return p
}

// built is the executable of Caddy for a test binary that has none: the one that everybody
// builds.
var built struct {
	sync.Once
	name string
}

func caddyExecutable(t testing.TB) string {
	t.Helper()
	built.Do(func() {
		built.name = executable.Of(t, ".", "github.com/seed-21dbdb71/caddy-websocket/cmd/caddy")
	})
	if built.name == "" {
		t.Fatal("Caddy can't be built")
	}
	return built.name
}
