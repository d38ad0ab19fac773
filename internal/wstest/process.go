package wstest

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

// A Process is Caddy in a process of its own.
type Process struct {
	Server
	Cmd         *exec.Cmd
	AdminSocket string         // the socket of its admin API
	level       string         // of what it logs
	storage     map[string]any // nil for the default
	exited      chan error
	ended       chan struct{} // closed when it has exited and all of its log is there
	Stderr      *LogBuffer
	Stdout      *LogBuffer
}

// StartProcess runs Caddy with the given config until the test ends.
func StartProcess(t testing.TB, global, site string) *Process {
	t.Helper()
	return NewProcess(t, "run", "--config", "-").Serve(t, "INFO", global, site)
}

// StartNode is StartProcess for one of several Caddys that share a storage, the JSON of its
// module. Data of its own is in a folder of its own. It runs the given binary, or the usual
// one if that is empty.
func StartNode(t testing.TB, dir, binary string, storage map[string]any, site string) *Process {
	t.Helper()
	p := NewProcess(t, "run", "--config", "-")
	p.storage = storage
	p.Cmd.Env = append(p.Cmd.Env, "XDG_DATA_HOME="+dir)
	if binary != "" {
		p.Cmd.Path = binary
	}
	return p.Serve(t, "INFO", "", site)
}

// StartBeside is StartGlobal in a process of its own, for a parallel test: one that takes
// its time takes it while others do.
func StartBeside(t testing.TB, global, site string) *Process {
	t.Helper()
	return NewProcess(t, "run", "--config", "-").Serve(t, "DEBUG", global, site)
}

// Serve runs the process, whose arguments read a config from standard input, with the given
// one until the test ends. It logs what is of the given level or above.
func (p *Process) Serve(t testing.TB, level, global, site string) *Process {
	t.Helper()
	p.level = level
	p.readConfig(p.config(t, global, site))
	p.Run(t, func(msg string) bool {
		return p.Plain != "" && p.Secure != "" && isServing(msg)
	})
	return p
}

// isServing reports whether msg is what Caddy logs once it serves its first config.
func isServing(msg string) bool { return msg == "serving initial configuration" }

// NewProcess prepares Caddy with the given arguments.
func NewProcess(t testing.TB, args ...string) *Process {
	t.Helper()
	p := &Process{exited: make(chan error, 1), ended: make(chan struct{}), Stderr: new(LogBuffer), Stdout: new(LogBuffer)}
	p.Logs = p.Stderr
	p.AdminSocket = filepath.Join(TempDir, rand.Text()) // a path that is short enough for a socket
	if InProcess != nil {
		p.Cmd = exec.Command(os.Args[0], args...)
		p.Cmd.Env = append(os.Environ(), asCaddy+"=1")
	} else {
		p.Cmd = exec.Command(caddyExecutable(t), args...)
		p.Cmd.Env = os.Environ()
	}
	p.Cmd.Stdout = p.Stdout
	return p
}

// readConfig has the process read its config from standard input.
func (p *Process) readConfig(config []byte) { p.Cmd.Stdin = bytes.NewReader(config) }

// Run runs the process until the test ends, and waits for the log message that
// says it is ready.
func (p *Process) Run(t testing.TB, isReady func(msg string) bool) {
	t.Helper()
	t.Cleanup(func() {
		p.kill()
		for _, race := range p.races() {
			t.Errorf("in Caddy's log: %.4000s", race)
		}
		if t.Failed() {
			t.Logf("Caddy's log:\n%s", p.Stderr)
		}
	})
	p.start(t, isReady)
}

// start runs the process until it is killed.
func (p *Process) start(t testing.TB, isReady func(msg string) bool) {
	t.Helper()
	stderr, err := p.Cmd.StderrPipe()
	if err == nil {
		err = p.Cmd.Start()
	}
	if err != nil {
		close(p.ended)
		t.Fatal(err)
	}
	ready := make(chan struct{})
	go func() {
		defer close(p.ended)
		p.watch(stderr, isReady, ready)
		p.exited <- p.Cmd.Wait()
	}()
	select {
	case <-ready:
	case err := <-p.exited:
		t.Fatalf("Caddy ended: %v\n%s", err, p.Stderr)
	case <-time.After(Timeout):
		t.Fatal("Caddy doesn't start")
	}
}

// kill kills the process and waits until all of its log is there.
func (p *Process) kill() {
	if p.Cmd.Process != nil {
		p.Cmd.Process.Kill()
	}
	<-p.ended
}

// races returns the data races that its log reports, except the one that is Caddy's own:
// its reverse_proxy copies itself for each request, while a timer of it is set.
func (p *Process) races() []string {
	var races []string
	for entry := range strings.SplitSeq(p.Stderr.String(), "==================") {
		known := strings.Contains(entry, "reverseproxy.(*Handler).cleanupConnections()") ||
			strings.Contains(entry, "reverseproxy.(*Handler).registerConnection.func1()")
		if strings.Contains(entry, "WARNING: DATA RACE") && !known {
			races = append(races, entry)
		}
	}
	return races
}

// watch reads Caddy's log, and from it the addresses that it listens on.
func (p *Process) watch(stderr io.Reader, isReady func(msg string) bool, ready chan<- struct{}) {
	var once sync.Once
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fmt.Fprintf(p.Stderr, "%s\n", lines.Bytes())
		var e struct {
			Msg    string
			Input  string `json:"input_address"`
			Actual string `json:"actual_address"`
		}
		json.Unmarshal(lines.Bytes(), &e)
		switch {
		case e.Msg != "port 0 listener":
		case strings.HasPrefix(e.Input, "127.0.0.1"):
			p.move(&p.Plain, e.Actual)
		default:
			p.move(&p.Secure, e.Actual)
		}
		if isReady(e.Msg) {
			once.Do(func() { close(ready) })
		}
	}
}

// move notes that an address has changed.
func (p *Process) move(address *string, to string) {
	p.moving.Lock()
	defer p.moving.Unlock()
	*address = to
}

// config is the config of the process: it logs to standard error and has an
// admin API.
func (p *Process) config(t testing.TB, global, site string) []byte {
	t.Helper()
	var cfg map[string]any
	if err := json.Unmarshal(Config(t, "", global, site), &cfg); err != nil {
		t.Fatal(err)
	}
	cfg["logging"] = map[string]any{"logs": map[string]any{"default": map[string]any{"level": p.level}}}
	if p.storage != nil {
		cfg["storage"] = p.storage
	}
	cfg["admin"] = p.admin()
	return JSON(cfg)
}

// admin is the config of the process's admin API.
func (p *Process) admin() map[string]any {
	return map[string]any{"listen": "unix/" + p.AdminSocket, "config": map[string]any{"persist": false}}
}

// Reload replaces the config of the process.
func (p *Process) Reload(t testing.TB, global, site string) {
	t.Helper()
	plain, secure := p.Addresses()
	if err := p.Post("/load", p.config(t, global, site)); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(Timeout); ; time.Sleep(time.Millisecond) {
		if newPlain, newSecure := p.Addresses(); newPlain != plain && newSecure != secure {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("Caddy's log doesn't say where it listens now")
		}
	}
}

// Terminate has the process exit as a service manager would. Windows has no
// SIGTERM; there the admin API does it.
func (p *Process) Terminate(t *testing.T) {
	t.Helper()
	if runtime.GOOS == "windows" {
		go p.Post("/stop", nil)
		return
	}
	if err := p.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

// Abort ends the process, and returns its log, with the stacks of all goroutines.
func (p *Process) Abort(t *testing.T) string {
	t.Helper()
	if err := p.Cmd.Process.Signal(syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	<-p.ended
	return p.Stderr.String()
}

// ExpectExit makes sure that the process ends, and well.
func (p *Process) ExpectExit(t *testing.T) {
	t.Helper()
	select {
	case err := <-p.exited:
		if err != nil {
			t.Errorf("Caddy ended: %v", err)
		}
	case <-time.After(Timeout):
		t.Error("Caddy doesn't exit")
		_ = p.Cmd.Process.Signal(syscall.SIGABRT) // its stacks go to the log
		<-p.exited
	}
}
