//go:build soak

package e2e

import (
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// chaosTime is how long TestSoakChaos lasts, from SOAK_CHAOS.
func chaosTime(t *testing.T) time.Duration {
	t.Helper()
	value := os.Getenv("SOAK_CHAOS")
	if value == "" {
		return time.Minute
	}
	d, err := time.ParseDuration(value)
	if err != nil {
		t.Fatalf("SOAK_CHAOS '%s': %v", value, err)
	}
	return d
}

// Hostile clients on all protocols and in both modes, while the config is reloaded,
// applications die, and an administrator closes sockets at random. Clients that keep the
// rules never see a wrong byte, and in the end nothing of them all is left. (Memory is not
// looked at: Go's HTTP/2 server keeps that of connections which break off in a write until
// Caddy's idle timeout, which is five minutes, with any handler.)
func TestSoakChaos(t *testing.T) {
	c := &chaos{t: t, apps: []*mortalApp{startMortalApp(t), startMortalApp(t)}, stop: make(chan struct{})}
	c.p = wstest.StartProcess(t, "", c.site(0))
	for _, protocol := range wstest.Protocols { // so that the first figures have what stays
		for _, path := range []string{"/echo", "/app"} {
			c.p.Dial(t, protocol, path).Conn.Close()
		}
	}
	before := figures(t, c.p)
	c.every(200*time.Millisecond, c.reload)
	c.every(700*time.Millisecond, c.killApp)
	c.every(300*time.Millisecond, c.administrate)
	for _, protocol := range wstest.Protocols {
		for _, path := range []string{"/echo", "/app"} {
			for range 3 {
				c.wg.Go(func() { c.keepRules(protocol, path) })
				c.wg.Go(func() { c.breakRules(protocol, path) })
			}
		}
	}
	for range 2 {
		c.wg.Go(c.sendGarbage)
	}
	time.Sleep(chaosTime(t))
	close(c.stop)
	c.wg.Wait()
	t.Logf("%d reloads, %d dead applications, %d administrator's calls; %d well-behaved sockets with %d messages, %d hostile ones",
		c.reloads.Load(), c.deaths.Load(), c.calls.Load(), c.sockets.Load(), c.messages.Load(), c.attacks.Load())
	for _, n := range []*atomic.Int64{&c.reloads, &c.deaths, &c.calls, &c.sockets, &c.messages, &c.attacks} {
		if n.Load() == 0 {
			t.Error("one of these never happened")
		}
	}
	if status, answer, err := c.p.Call(http.MethodDelete, "/websocket/sessions?client_ip=127.0.0.1&code=1012", nil); err != nil || status != http.StatusOK {
		t.Errorf("status %d, %v: %s", status, err, answer)
	}
	expectIdle(t, c.p, before)
	c.p.Terminate(t)
	c.p.ExpectExit(t)
	for line := range strings.Lines(c.p.Stderr.String()) {
		if strings.HasPrefix(line, "panic: ") || strings.Contains(line, "panic while") || strings.Contains(line, "panic serving") {
			t.Errorf("in the log: %s", line)
		}
	}
}

// A chaos is what happens to one Caddy.
type chaos struct {
	t    *testing.T
	p    *wstest.Process
	apps []*mortalApp
	stop chan struct{} // closed when it is enough
	wg   sync.WaitGroup

	reloads, deaths, calls, sockets, messages, attacks atomic.Int64
}

// every calls f again and again, with a pause, until it is enough.
func (c *chaos) every(pause time.Duration, f func()) {
	c.wg.Go(func() {
		for !c.over() {
			f()
			time.Sleep(pause)
		}
	})
}

func (c *chaos) over() bool {
	select {
	case <-c.stop:
		return true
	default:
		return false
	}
}

// site is one of several configs, between which reloads change.
func (c *chaos) site(i int) string {
	upstreams := c.apps[0].Addr().String()
	if i%2 == 0 {
		upstreams += " " + c.apps[1].Addr().String()
	}
	app := []string{
		"", "upstream_keepalive 200ms 2s", "max_message_size 1MiB 2MiB", "keepalive 100ms 3s\nclose_delay 2s", "max_connections 40 30",
		"message_rate 200 100ms\nbyte_rate 1MiB 100ms close\nexpires 3s 4401\nrecheck 1s {\nrespond 204\n}",
		"message_rate 100 100ms close\nbyte_rate 64KiB 100ms\nkeepalive 100ms 3s\nrecheck 1s {\nreverse_proxy 127.0.0.1:1\n}",
	}[i%7]
	echo := []string{
		"", "compression on", "max_message_size 1MiB\nkeepalive 100ms 3s", "max_lifetime 2s",
		"message_rate 100 100ms close\nbyte_rate 64KiB 100ms\nkeepalive 100ms 3s\nrecheck 1s {\nabort\n}\nmax_connections_per {remote_port} 1",
	}[i%5]
	return fmt.Sprintf("websocket /echo {\nwrite_timeout 2s\n%s\n}\nwebsocket /app passthrough {\nallowed_origins *\nwrite_timeout 2s\n%s\n}\n"+
		"respond /no-socket 204\nreverse_proxy %s", echo, app, upstreams)
}

func (c *chaos) reload() {
	c.p.Reload(c.t, "", c.site(int(c.reloads.Add(1))))
}

func (c *chaos) killApp() {
	c.apps[c.deaths.Add(1)%2].killConns()
}

// administrate calls the admin API, with what is right and what isn't.
func (c *chaos) administrate() {
	calls := []struct {
		method, path string
		status       int
	}{
		{http.MethodGet, "/websocket/sessions", http.StatusOK},
		{http.MethodGet, "/metrics", http.StatusOK},
		{http.MethodDelete, "/websocket/sessions?path=/app&fraction=0.3&code=1012", http.StatusOK},
		{http.MethodDelete, "/websocket/sessions?mode=echo&fraction=0.2&over=1s", http.StatusOK},
		{http.MethodDelete, "/websocket/sessions?server=secure&fraction=0.1&code=4000&reason=bye", http.StatusOK},
		{http.MethodDelete, "/websocket/sessions", http.StatusBadRequest},
		{http.MethodGet, "/websocket/sessions/none", http.StatusNotFound},
	}
	call := calls[mathrand.IntN(len(calls))]
	status, answer, err := c.p.Call(call.method, call.path, nil)
	if err == nil && status != call.status { // a reload restarts the admin API
		c.t.Errorf("%s %s: status %d, %v: %.200s", call.method, call.path, status, err, answer)
	}
	c.calls.Add(1)
}

// keepRules echoes messages on one socket after the other. Each may be refused or closed
// at any time, but nothing else may come back than what was sent.
func (c *chaos) keepRules(protocol, path string) {
	var stop atomic.Bool
	go func() {
		<-c.stop
		stop.Store(true)
	}()
	for !c.over() {
		peer, err := c.p.Connect(protocol, path)
		if err != nil || peer.Response.StatusCode >= 300 {
			if peer != nil && peer.Conn != nil {
				peer.Conn.Close()
			}
			time.Sleep(10 * time.Millisecond)
			continue
		}
		c.sockets.Add(1)
		if err := talk(peer, &stop, time.Millisecond, &c.messages); err != nil && strings.Contains(err.Error(), "came back") {
			c.t.Errorf("%s %s: %v", protocol, path, err)
		}
		peer.Conn.Close()
	}
}

// breakRules opens one socket after the other and does to it what no client should.
func (c *chaos) breakRules(protocol, path string) {
	for i := 0; !c.over(); i++ {
		peer, err := c.p.Connect(protocol, path)
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		c.attacks.Add(1)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = io.Copy(io.Discard, peer.Reader)
		}()
		attacks[i%len(attacks)](peer)
		peer.Conn.Close()
		<-done
	}
}

// attacks are what is done to an open socket before its connection is closed.
var attacks = []func(*wstest.Peer){
	func(p *wstest.Peer) { // any bytes
		b := make([]byte, mathrand.IntN(4096))
		for i := range b {
			b[i] = byte(mathrand.Uint32())
		}
		write(p, b)
	},
	func(p *wstest.Peer) { // much is announced and nothing follows
		write(p, []byte{ws.FinBit | byte(ws.OpBinary), ws.MaskBit | 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5})
		time.Sleep(50 * time.Millisecond)
	},
	func(p *wstest.Peer) { // a compressed message that breaks off
		write(p, append([]byte{ws.FinBit | ws.RSV1Bit | byte(ws.OpText), ws.MaskBit | 126, 0xff, 0xff, 0, 0, 0, 0}, make([]byte, 100)...))
		time.Sleep(50 * time.Millisecond)
	},
	func(p *wstest.Peer) { // writes of nothing
		for range 20 {
			write(p, nil)
		}
		frame := wstest.ClientFrame(ws.FinBit|byte(ws.OpText), []byte("cut into pieces"))
		for i := range frame {
			write(p, frame[i:i+1])
			write(p, nil)
		}
	},
	func(p *wstest.Peer) { // many answers to no question, and many questions
		for range 200 {
			write(p, wstest.ClientFrame(ws.FinBit|byte(ws.OpPong), []byte("12345678")))
			write(p, wstest.ClientFrame(ws.FinBit|byte(ws.OpPing), []byte("12345678")))
		}
	},
	func(p *wstest.Peer) { // Close frames with all that is wrong
		for _, code := range []int{0, 999, 1005, 1006, 1015, 5000} {
			write(p, wstest.ClientFrame(ws.FinBit|byte(ws.OpClose), []byte{byte(code >> 8), byte(code), 0xff}))
		}
	},
	func(p *wstest.Peer) { // messages within messages, lengths in a longer form, no masks
		write(p, wstest.ClientFrame(byte(ws.OpText), []byte("begun")))
		write(p, wstest.ClientFrame(byte(ws.OpBinary), []byte("begun again")))
		write(p, wstest.LongForm(ws.FinBit, []byte("ended")))
		write(p, wstest.ServerFrame(ws.FinBit|byte(ws.OpText), "no mask"))
	},
	func(p *wstest.Peer) { // more than a limit
		block := wstest.ClientFrame(ws.FinBit|byte(ws.OpBinary), make([]byte, 2<<20))
		write(p, block)
	},
	func(p *wstest.Peer) {}, // nothing at all
}

// write writes for at most a second.
func write(p *wstest.Peer, b []byte) {
	if conn, ok := p.Conn.(interface{ SetWriteDeadline(at time.Time) error }); ok {
		_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	} else { // on HTTP/2
		timer := time.AfterFunc(time.Second, func() { p.Conn.Close() })
		defer timer.Stop()
	}
	_, _ = p.Conn.Write(b)
}

// sendGarbage sends requests to both ports that are none, or almost.
func (c *chaos) sendGarbage() {
	requests := []string{
		"", "\x16\x03\x01", "GET / HTTP/9.9\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00",
		"GET /app HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"GET /app HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, Sec-WebSocket-Key\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n",
		"POST /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello",
		"GET /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: " + strings.Repeat("x,", 4000) + "\r\n\r\n\x88",
	}
	for i := 0; !c.over(); i++ {
		plain, secure := c.p.Addresses()
		for _, address := range []string{plain, secure} {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				continue
			}
			_, _ = io.WriteString(conn, requests[i%len(requests)])
			_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			_, _ = io.Copy(io.Discard, conn)
			conn.Close()
			c.attacks.Add(1)
		}
	}
}

// A mortalApp is an application whose connections all break at once, now and then.
type mortalApp struct {
	net.Listener
	mu    sync.Mutex // guards conns
	conns map[net.Conn]struct{}
}

func startMortalApp(t *testing.T) *mortalApp {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &mortalApp{Listener: ln, conns: make(map[net.Conn]struct{})}
	t.Cleanup(func() { ln.Close() })
	go wstest.ServeEcho(a)
	return a
}

// Accept notes the connection.
func (a *mortalApp) Accept() (net.Conn, error) {
	conn, err := a.Listener.Accept()
	if err == nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.conns[conn] = struct{}{}
	}
	return conn, err
}

// killConns resets some connections, and closes the others.
func (a *mortalApp) killConns() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for conn := range a.conns {
		if tcp, ok := conn.(*net.TCPConn); ok && mathrand.IntN(2) == 0 {
			_ = tcp.SetLinger(0)
		}
		conn.Close()
		delete(a.conns, conn)
	}
}
