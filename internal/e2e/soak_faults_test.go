//go:build soak

package e2e

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// A lossy is a network that forwards connections until it swallows everything:
// the ends of connections, too, as one does when a cable is cut.
type lossy struct {
	net.Listener
	to        string
	swallowed atomic.Bool
}

func newLossy(t *testing.T, to string) *lossy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &lossy{Listener: ln, to: to}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go l.forward(t, conn)
		}
	}()
	return l
}

func (l *lossy) forward(t *testing.T, client net.Conn) {
	server, err := net.Dial("tcp", l.to)
	if err != nil {
		client.Close()
		return
	}
	t.Cleanup(func() { server.Close(); client.Close() })
	pump := func(to, from net.Conn) {
		buf := make([]byte, 4096)
		for {
			n, err := from.Read(buf)
			if l.swallowed.Load() {
				return
			}
			if err != nil {
				to.Close()
				return
			}
			to.Write(buf[:n])
		}
	}
	go pump(server, client)
	pump(client, server)
}

// soakSite has short times, and both modes.
func soakSite(upstream string) string {
	const options = "keepalive 1s 4s\nwrite_timeout 2s\n"
	return "websocket /echo {\n" + options + "}\nwebsocket passthrough {\nallowed_origins *\n" + options + "}\nrespond /no-socket 204\nreverse_proxy " + upstream
}

// Peers that vanish, half close, reset, stop reading, or write a byte a second,
// many of each, in both modes. Those that keep the rules keep their sockets.
func TestSoakFaults(t *testing.T) {
	const each = 50
	p := wstest.StartProcess(t, "", soakSite(wstest.EchoUpstream(t)))
	for _, path := range []string{"/echo", "/app"} {
		for range each {
			soakDial(t, p, p.Plain, path).Close()
		}
	}
	before, closesBefore := figures(t, p), closeCounts(t, p)
	network := newLossy(t, p.Plain)
	var wg, connected sync.WaitGroup
	for _, path := range []string{"/echo", "/app"} {
		for range each {
			connected.Add(1)
			wg.Go(func() { vanish(t, p, network, path, connected.Done) })
			wg.Go(func() { halfClose(t, p, path) })
			wg.Go(func() { resetInFrame(t, p, path) })
			wg.Go(func() { stopReading(t, p, path) })
			wg.Go(func() { writeSlowly(t, p, path) })
		}
	}
	connected.Wait()
	network.swallowed.Store(true)
	wg.Wait()
	expectBack(t, p, before)
	closes := closeCounts(t, p)
	for cause := range closes {
		closes[cause] -= closesBefore[cause]
	}
	t.Logf("closes by cause: %v", closes)
	if closes["keepalive_timeout"] < 2*each || closes["write_timeout"] < 2*each {
		t.Errorf("not every vanished peer or stopped reader was found: %v", closes)
	}
}

func soakDial(t *testing.T, p *wstest.Process, address, path string) *websocket.Conn {
	conn, _, err := smallDialer.Dial("ws://"+address+path, nil)
	if err != nil {
		t.Error(err)
		return nil
	}
	conn.WriteMessage(websocket.TextMessage, []byte("hello"))
	if _, got, err := conn.ReadMessage(); err != nil || string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
		conn.Close()
		return nil
	}
	conn.NetConn().SetWriteDeadline(time.Time{}) // gorilla leaves that of a Pong behind
	return conn
}

// vanish is a client whose packets get lost from some moment on.
func vanish(t *testing.T, p *wstest.Process, network *lossy, path string, connected func()) {
	conn := soakDial(t, p, network.Addr().String(), path)
	connected()
	if conn == nil {
		return
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(8 * time.Second))
	if _, _, err := conn.ReadMessage(); !isTimeout(err) { // pings come until then
		t.Errorf("%s: the end of a lost connection came through: %v", path, err)
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// halfClose is a client that sends the end of its stream and goes on reading.
func halfClose(t *testing.T, p *wstest.Process, path string) {
	conn := soakDial(t, p, p.Plain, path)
	if conn == nil {
		return
	}
	defer conn.Close()
	conn.NetConn().(*net.TCPConn).CloseWrite()
	conn.SetReadDeadline(time.Now().Add(wstest.Timeout))
	if _, err := io.Copy(io.Discard, conn.NetConn()); isTimeout(err) {
		t.Errorf("%s: half a connection stays open", path)
	}
}

// resetInFrame is a client that crashes while it sends.
func resetInFrame(t *testing.T, p *wstest.Process, path string) {
	conn := soakDial(t, p, p.Plain, path)
	if conn == nil {
		return
	}
	raw := conn.NetConn().(*net.TCPConn)
	raw.Write(wstest.ClientFrame(ws.FinBit|byte(ws.OpBinary), make([]byte, 100_000))[:50_000])
	raw.SetLinger(0)
	raw.Close()
}

// stopReading is a client that sends and doesn't take what comes back. Its own
// system may hide the end from it for minutes: while its receive buffer is full,
// Linux drops the segments that tell of it.
func stopReading(t *testing.T, p *wstest.Process, path string) {
	conn := soakDial(t, p, p.Plain, path)
	if conn == nil {
		return
	}
	defer conn.Close()
	frame := wstest.ClientFrame(ws.FinBit|byte(ws.OpBinary), make([]byte, 1<<20))
	conn.NetConn().SetWriteDeadline(time.Now().Add(wstest.Timeout))
	for err := error(nil); err == nil; {
		_, err = conn.NetConn().Write(frame)
	}
}

// writeSlowly is a client that takes longer for a frame than keepalive waits for
// a word, and keeps its socket.
func writeSlowly(t *testing.T, p *wstest.Process, path string) {
	conn := soakDial(t, p, p.Plain, path)
	if conn == nil {
		return
	}
	defer conn.Close()
	conn.SetPingHandler(func(string) error { return nil }) // its frame isn't at an end
	const message = "slow text"
	for _, b := range wstest.ClientFrame(ws.FinBit|byte(ws.OpText), []byte(message)) {
		time.Sleep(time.Second)
		if _, err := conn.NetConn().Write([]byte{b}); err != nil {
			t.Errorf("%s: writing: %v", path, err)
			return
		}
	}
	conn.SetReadDeadline(time.Now().Add(wstest.Timeout))
	if _, got, err := conn.ReadMessage(); err != nil || string(got) != message {
		t.Errorf("%s: got %q, %v", path, got, err)
	}
}

// An upstream is killed and comes back, again and again: its sockets end with
// 1012, and new ones work.
func TestSoakUpstream(t *testing.T) {
	const rounds, sockets = 20, 50
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	app := serveEchoOn(ln)
	p := wstest.StartProcess(t, "", soakSite(address))
	soakDial(t, p, p.Plain, "/app").Close()
	before := figures(t, p)
	for range rounds {
		var wg sync.WaitGroup
		for range sockets {
			conn := soakDial(t, p, p.Plain, "/app")
			if conn == nil {
				t.FailNow()
			}
			wg.Go(func() {
				defer conn.Close()
				conn.SetReadDeadline(time.Now().Add(wstest.Timeout))
				_, _, err := conn.ReadMessage()
				if !websocket.IsCloseError(err, websocket.CloseInternalServerErr) {
					t.Errorf("the end of the upstream is %v, want 1012", err)
				}
			})
		}
		app.kill()
		wg.Wait()
		if ln, err = net.Listen("tcp", address); err != nil {
			t.Fatal(err)
		}
		app = serveEchoOn(ln)
	}
	app.kill()
	t.Logf("%d times %d sockets ended with 1012", rounds, sockets)
	expectBack(t, p, before)
}

// An echoApp is an upstream that can be killed.
type echoApp struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func serveEchoOn(ln net.Listener) *echoApp {
	app := &echoApp{Listener: ln}
	go wstest.ServeEcho(app)
	return app
}

func (a *echoApp) Accept() (net.Conn, error) {
	conn, err := a.Listener.Accept()
	if err == nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.conns = append(a.conns, conn)
	}
	return conn, err
}

// kill ends it as a crash does.
func (a *echoApp) kill() {
	a.Close()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, conn := range a.conns {
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
}
