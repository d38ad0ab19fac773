package caddywebsocket

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
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

// call calls the admin API.
func (p *process) call(method, path string, body []byte) (status int, answer string, err error) {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return net.Dial("unix", p.admin)
		},
	}}
	req, err := http.NewRequest(method, "http://caddy"+path, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	message, err := io.ReadAll(res.Body)
	return res.StatusCode, string(message), err
}

// post calls the admin API for something that must work.
func (p *process) post(path string, body []byte) error {
	status, answer, err := p.call(http.MethodPost, path, body)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s: status %d: %s", path, status, answer)
	}
	return err
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
		progress := make(chan struct{})
		stalled.Go(func() {
			block := clientFrame(finBit|byte(opBinary), make([]byte, 1<<20))
			for {
				if _, err := peer.rw.Write(block); err != nil {
					return
				}
				select {
				case progress <- struct{}{}:
				case <-t.Context().Done():
					return
				}
			}
		})
		for moving := true; moving; {
			select {
			case <-progress:
			case <-time.After(500 * time.Millisecond):
				moving = false // the echo fills all buffers on the way
			}
		}
	}
	p.terminate(t)
	p.expectExit(t)
	p.cmd.Process.Kill()
	stalled.Wait()
}

// An HTTP/2 client that doesn't read from its connection at all is cut as well,
// though not even the reset of its stream gets through.
func TestDeafHTTP2Connection(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "large"), make([]byte, 20<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, "websocket /ws {\nwrite_timeout 200ms\n}\nfile_server {\nroot "+dir+"\n}")
	conn, err := tls.Dial("tcp", s.secure, insecure("h2"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	framer := http2.NewFramer(conn, conn)
	io.WriteString(conn, http2.ClientPreface)
	framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	framer.WriteWindowUpdate(0, 1<<30)
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	request := func(stream uint32, end bool, fields ...string) {
		block.Reset()
		for i := 0; i < len(fields); i += 2 {
			encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
		framer.WriteHeaders(http2.HeadersFrameParam{
			StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end,
		})
	}
	request(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "https",
		":authority", s.secure, ":path", "/ws", "sec-websocket-version", "13")
	s.logs.await(t, "socket opened", 1)
	request(3, true, ":method", "GET", ":scheme", "https", ":authority", s.secure, ":path", "/large")
	// What is echoed before the file has filled all buffers still gets through.
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := 0; i < 50 && len(s.logs.entries("socket closed")) == 0; i++ {
		<-tick.C
		framer.WriteData(1, false, clientFrame(finBit|byte(opBinary), make([]byte, 10_000)))
	}
	if by := s.logs.await(t, "socket closed", 1)[0]["closed_by"]; by != string(byWriteTimeout) {
		t.Errorf("closed by %v, want %v", by, byWriteTimeout)
	}
}

// Sockets, and handshakes that are refused, leave nothing behind, and an open
// socket has no goroutine but its handler's.
func TestNothingLeaks(t *testing.T) {
	const n = 100
	s := start(t, "websocket {\nsubprotocols a\n}")
	s.dial(t, "http1", "/").bye()
	settled := func(want int) int {
		var got int
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); runtime.Gosched() {
			if got = runtime.NumGoroutine(); got <= want {
				break
			}
		}
		return got
	}
	before := runtime.NumGoroutine()
	var open []*peer
	for range n {
		p := s.dial(t, "http1", "/")
		p.echo(opText, "hello")
		open = append(open, p)
	}
	if got := settled(before + n); got > before+n {
		t.Errorf("%d goroutines for %d sockets", got-before, n)
	}
	for i, p := range open {
		switch i % 3 {
		case 0:
			p.bye()
		case 1:
			p.write([]byte{0xff})
			p.expectClose(1002, "")
			p.rw.Close()
		case 2:
			p.rw.Close()
		}
	}
	for range n {
		p := s.attempt(t, "http1", "/", "Sec-WebSocket-Key", "-")
		p.rw.Close()
	}
	if got := settled(before); got > before {
		t.Errorf("%d goroutines are left", got-before)
	}
	sessions.mu.Lock()
	defer sessions.mu.Unlock()
	if len(sessions.open) > 0 {
		t.Errorf("%d sessions are left", len(sessions.open))
	}
}

// Listener wrappers and some protocol settings hide the methods of a socket.
func TestWrappedConnection(t *testing.T) {
	s := startGlobal(t, "servers {\nprotocols h1\n}", "websocket")
	for _, protocol := range []string{"http1", "tls"} {
		for range 20 {
			p := s.dial(t, protocol, "/")
			p.echo(opText, "hello")
			p.write([]byte{0xff}, make([]byte, 200_000))
			p.expectClose(1002, "")
			if c, ok := p.rw.(interface{ CloseWrite() error }); ok {
				c.CloseWrite()
			}
			p.expectEnd()
		}
		s.dial(t, protocol, "/").bye()
	}
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
		for _, protocol := range protocols {
			p := s.dial(t, protocol, "/")
			p.expectPing() // half a second later
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
			silent.expectPing()
			silent.expectCloseAfterPings(1001, "keepalive timeout")
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

// A limit on request bodies in front takes an HTTP/2 or HTTP/3 socket for one.
func TestRequestBodyLimit(t *testing.T) {
	s := start(t, "request_body {\nmax_size 1KB\n}\nwebsocket")
	for _, protocol := range protocols {
		p := s.dial(t, protocol, "/")
		p.echo(opText, letters(500))
		p.send(opText, letters(800))
		if protocol == "http1" || protocol == "tls" {
			p.expect(opText, letters(800))
			p.bye()
		} else {
			p.expectClose(1009, "request_body max_size")
			p.expectEnd()
		}
	}
}
