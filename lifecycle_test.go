package caddywebsocket

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

// asCaddy is the environment variable that makes the test binary Caddy.
const asCaddy = "CADDY_WEBSOCKET_TEST_MAIN"

func init() {
	if os.Getenv(asCaddy) != "" {
		caddycmd.Main()
	}
}

// A process is Caddy in a process of its own.
type process struct {
	server
	cmd    *exec.Cmd
	admin  string // the socket of its admin API
	exited chan error
	stderr *logBuffer
}

// startProcess runs Caddy with the given config until the test ends.
func startProcess(t *testing.T, global, site string) *process {
	t.Helper()
	p := &process{exited: make(chan error, 1), stderr: new(logBuffer)}
	p.cmd = exec.Command(os.Args[0], "run", "--config", "-")
	p.cmd.Env = append(os.Environ(), asCaddy+"=1")
	p.admin = filepath.Join(tempDir, rand.Text()) // a path that is short enough for a socket
	p.cmd.Stdin = bytes.NewReader(p.config(t, global, site))
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{})
	go func() {
		p.watch(stderr, ready)
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
	return p
}

// watch reads Caddy's log, and from it the addresses that it listens on.
func (p *process) watch(stderr io.Reader, ready chan<- struct{}) {
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
		if p.plain != "" && p.secure != "" && e.Msg == "serving initial configuration" {
			once.Do(func() { close(ready) })
		}
	}
}

// config is the config of the process: it logs to standard error and has an
// admin API.
func (p *process) config(t *testing.T, global, site string) []byte {
	t.Helper()
	var cfg map[string]any
	if err := json.Unmarshal(config(t, global, site), &cfg); err != nil {
		t.Fatal(err)
	}
	delete(cfg, "logging")
	cfg["admin"] = map[string]any{"listen": "unix/" + p.admin, "config": map[string]any{"persist": false}}
	return mustJSON(cfg)
}

// post calls the admin API.
func (p *process) post(path string, body []byte) error {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return net.Dial("unix", p.admin)
		},
	}}
	res, err := client.Post("http://caddy"+path, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if message, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %d: %s", path, res.StatusCode, message)
	}
	return nil
}

// reload replaces the config of the process.
func (p *process) reload(t *testing.T, global, site string) {
	t.Helper()
	if err := p.post("/load", p.config(t, global, site)); err != nil {
		t.Fatal(err)
	}
}

// terminate sends SIGTERM.
func (p *process) terminate(t *testing.T) {
	t.Helper()
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

// dialAll opens a socket on each protocol.
func (s *server) dialAll(t *testing.T) []*peer {
	t.Helper()
	var peers []*peer
	for _, protocol := range protocols {
		p := s.dial(t, protocol, "/")
		p.echo(opText, "hello")
		peers = append(peers, p)
	}
	return peers
}

func TestExit(t *testing.T) {
	stop := map[string]func(t *testing.T, p *process){
		"SIGTERM": func(t *testing.T, p *process) { p.terminate(t) },
		"admin API": func(t *testing.T, p *process) {
			stopped := make(chan error, 1)
			go func() { stopped <- p.post("/stop", nil) }() // it answers when all is over
			t.Cleanup(func() {
				if err := <-stopped; err != nil {
					t.Error(err)
				}
			})
		},
		"SIGTERM after reload": func(t *testing.T, p *process) {
			p.reload(t, "", "websocket /elsewhere\nrespond new")
			p.terminate(t)
		},
		"SIGTERM without a handler of ours": func(t *testing.T, p *process) {
			p.reload(t, "", "respond new")
			p.terminate(t)
		},
	}
	for name, stop := range stop {
		t.Run(name, func(t *testing.T) {
			p := startProcess(t, "", "websocket")
			peers := p.dialAll(t)
			stop(t, p)
			for _, peer := range peers {
				peer.expectClose(1001, "shutting down")
				peer.sendClose(1001, "")
				peer.expectEnd()
				peer.rw.Close()
			}
			p.expectExit(t)
		})
	}
}

// Clients that don't answer, or don't even read, hold up no exit.
func TestExitWithDeafClients(t *testing.T) {
	p := startProcess(t, "", "websocket {\nwrite_timeout 1h\n}")
	var stalled sync.WaitGroup
	for _, peer := range p.dialAll(t) {
		if peer.name == "http1" {
			continue // this one reads and doesn't answer
		}
		stalled.Go(func() {
			block := clientFrame(finBit|byte(opBinary), make([]byte, 1<<20))
			for {
				if _, err := peer.rw.Write(block); err != nil {
					return
				}
			}
		})
	}
	p.terminate(t)
	p.expectExit(t)
	stalled.Wait()
}

func TestSocketsSurviveReloads(t *testing.T) {
	s := start(t, "websocket\nheader X-Config 0")
	peers := s.dialAll(t)
	for i := range 20 {
		s.reload(t, "", fmt.Sprintf("websocket\nheader X-Config %d", i+1))
		for _, p := range peers {
			p.echo(opText, "still there")
		}
	}
	for _, p := range peers {
		p.bye()
	}
	p := s.dial(t, "http1", "/")
	if got := p.res.Header.Get("X-Config"); got != "20" {
		t.Errorf("a new socket has config %s, want 20", got)
	}
	p.bye()
}

func TestCloseDelayAfterReload(t *testing.T) {
	s := start(t, "websocket {\nclose_delay 100ms\n}")
	peers := s.dialAll(t)
	s.reload(t, "", "websocket {\nkeepalive 5m\n}")
	for _, p := range peers {
		p.expectClose(1001, "reload")
		p.sendClose(1001, "")
		p.expectEnd()
		p.rw.Close()
	}
}

// Caddy's idle timeouts don't apply to sockets, on any protocol.
func TestIdleTimeouts(t *testing.T) {
	const global = "servers {\ntimeouts {\nread_body_idle 50ms\nwrite_idle 50ms\n}\n}"
	for _, global := range []string{global, strings.ReplaceAll(global, "50ms", "-1s")} {
		s := startGlobal(t, global, "websocket {\nkeepalive 500ms\n}")
		for _, p := range s.dialAll(t) {
			p.expect(opPing, "") // half a second later
			p.send(opPong, "")
			p.echo(opText, "still there")
			p.bye()
		}
	}
}

// On every protocol a client that vanishes, or goes on without a word, is
// found, and one that stops reading is, too.
func TestEndsOnEveryProtocol(t *testing.T) {
	s := start(t, "websocket /keepalive {\nkeepalive 50ms 120ms\n}\nwebsocket /stall {\nwrite_timeout 100ms\n}")
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			silent := s.dial(t, protocol, "/keepalive")
			silent.expect(opPing, "")
			silent.expect(opPing, "")
			silent.expectClose(1001, "keepalive timeout")
			silent.expectEnd()

			gone := s.dial(t, protocol, "/stall")
			gone.echo(opText, "hello")
			gone.rw.Close()

			stalled := s.dial(t, protocol, "/stall")
			block := clientFrame(finBit|byte(opBinary), make([]byte, 1<<20))
			for deadline := time.Now().Add(patience); ; {
				if _, err := stalled.rw.Write(block); err != nil {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("a stalled socket stays open")
				}
			}
		})
	}
	closed := s.logs.await(t, "socket closed", 3*len(protocols))
	count := make(map[any]int)
	for _, e := range closed {
		count[e["closed_by"]]++
	}
	for _, by := range []cause{byKeepaliveTimeout, byClient, byWriteTimeout} {
		if count[string(by)] != len(protocols) {
			t.Errorf("%d sockets closed by %s, want %d: %v", count[string(by)], by, len(protocols), count)
		}
	}
}

func TestMaxConnections(t *testing.T) {
	s := start(t, "websocket /total {\nmax_connections 2\n}\nwebsocket /client {\nmax_connections 10 1\n}")
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			for path, limit := range map[string]int{"/total": 2, "/client": 1} {
				var open []*peer
				for range limit {
					open = append(open, s.dial(t, protocol, path))
				}
				p := s.attempt(t, protocol, path)
				if p.res.StatusCode != 503 || p.res.Header.Get("Retry-After") == "" {
					t.Errorf("%s: status %d, Retry-After %q, want 503 and some", path, p.res.StatusCode, p.res.Header.Get("Retry-After"))
				}
				closed := len(s.logs.entries("socket closed"))
				for _, p := range open {
					p.echo(opText, "not disturbed")
					p.bye()
				}
				s.logs.await(t, "socket closed", closed+limit)
			}
		})
	}
}
