package caddywebsocket

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// asCaddy is the environment variable that makes the test binary Caddy.
const asCaddy = "CADDY_WEBSOCKET_TEST_MAIN"

// A process is Caddy in a process of its own.
type process struct {
	server
	cmd    *exec.Cmd
	admin  string // the socket of its admin API
	exited chan error
	stderr *logBuffer
	stdout *logBuffer
}

// startProcess runs Caddy with the given config until the test ends.
func startProcess(t testing.TB, global, site string) *process {
	t.Helper()
	p := newProcess("run", "--config", "-")
	p.admin = filepath.Join(tempDir, rand.Text()) // a path that is short enough for a socket
	p.cmd.Stdin = bytes.NewReader(p.config(t, global, site))
	p.run(t, func(msg string) bool {
		return p.plain != "" && p.secure != "" && msg == "serving initial configuration"
	})
	return p
}

// newProcess prepares Caddy with the given arguments.
func newProcess(args ...string) *process {
	p := &process{exited: make(chan error, 1), stderr: new(logBuffer), stdout: new(logBuffer)}
	p.cmd = exec.Command(os.Args[0], args...)
	p.cmd.Env = append(os.Environ(), asCaddy+"=1")
	p.cmd.Stdout = p.stdout
	return p
}

// run runs the process until the test ends, and waits for the log message that
// says it is ready.
func (p *process) run(t testing.TB, isReady func(msg string) bool) {
	t.Helper()
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	go func() {
		p.watch(stderr, isReady, ready)
		p.exited <- p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		if t.Failed() {
			t.Logf("Caddy's log:\n%s", p.stderr)
		}
	})
	select {
	case <-ready:
	case err := <-p.exited:
		t.Fatalf("Caddy ended: %v\n%s", err, p.stderr)
	case <-time.After(patience):
		t.Fatal("Caddy doesn't start")
	}
}

// watch reads Caddy's log, and from it the addresses that it listens on.
func (p *process) watch(stderr io.Reader, isReady func(msg string) bool, ready chan<- struct{}) {
	var once sync.Once
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fmt.Fprintf(p.stderr, "%s\n", lines.Bytes())
		var e struct {
			Msg    string
			Input  string `json:"input_address"`
			Actual string `json:"actual_address"`
		}
		json.Unmarshal(lines.Bytes(), &e)
		switch {
		case e.Msg == "port 0 listener" && strings.HasPrefix(e.Input, "127.0.0.1"):
			p.plain = e.Actual
		case e.Msg == "port 0 listener":
			p.secure = e.Actual
		}
		if isReady(e.Msg) {
			once.Do(func() { close(ready) })
		}
	}
}

// config is the config of the process: it logs to standard error and has an
// admin API.
func (p *process) config(t testing.TB, global, site string) []byte {
	t.Helper()
	var cfg map[string]any
	if err := json.Unmarshal(config(t, "", global, site), &cfg); err != nil {
		t.Fatal(err)
	}
	delete(cfg, "logging")
	cfg["admin"] = map[string]any{"listen": "unix/" + p.admin, "config": map[string]any{"persist": false}}
	return mustJSON(cfg)
}

// reload replaces the config of the process.
func (p *process) reload(t *testing.T, global, site string) {
	t.Helper()
	if err := p.post("/load", p.config(t, global, site)); err != nil {
		t.Fatal(err)
	}
}

// terminate has the process exit as a service manager would. Windows has no
// SIGTERM; there the admin API does it.
func (p *process) terminate(t *testing.T) {
	t.Helper()
	if runtime.GOOS == "windows" {
		go p.post("/stop", nil)
		return
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

// expectExit makes sure that the process ends, and well.
func (p *process) expectExit(t *testing.T) {
	t.Helper()
	select {
	case err := <-p.exited:
		if err != nil {
			t.Errorf("Caddy ended: %v", err)
		}
	case <-time.After(patience):
		t.Error("Caddy doesn't exit")
	}
}
