//go:build soak

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// 10,000 sockets come at once, are pinged, and go in three ways; twice.
func TestSoakStorm(t *testing.T) {
	const sockets, dialers = 10_000, 50
	p := wstest.StartProcess(t, "", "websocket {\nkeepalive 10s 60s\n}")
	storm(t, p, 100, 10)
	before := figures(t, p)
	for range 2 {
		start := time.Now()
		held := storm(t, p, sockets, dialers)
		t.Logf("%d sockets in %v, %d B of live memory and %d B of resident memory each", sockets,
			time.Since(start).Round(time.Millisecond), (held.live-before.live)/sockets, (held.resident-before.resident)/sockets)
		expectBack(t, p, before)
	}
}

// storm opens sockets, waits until all have been pinged, and drops them. It
// gives the figures at the height of it.
func storm(t *testing.T, p *wstest.Process, sockets, dialers int) figure {
	t.Helper()
	var (
		wg, pinged sync.WaitGroup
		conns      = make(chan *websocket.Conn, sockets)
		failures   atomic.Int64
	)
	pinged.Add(sockets)
	for range dialers {
		wg.Go(func() {
			for range sockets / dialers {
				conn, _, err := smallDialer.Dial("ws://"+p.Plain, nil)
				if err != nil {
					t.Error(err)
					return
				}
				conns <- conn
			}
		})
	}
	wg.Wait()
	close(conns)
	if t.Failed() {
		t.FailNow()
	}
	drop := make(chan struct{})
	i := 0
	for conn := range conns {
		how := i % 3
		i++
		wg.Go(func() {
			if err := holdSocket(conn, how, sync.OnceFunc(pinged.Done), drop); err != nil {
				failures.Add(1)
				t.Log(err)
			}
		})
	}
	pinged.Wait()
	held := figures(t, p)
	close(drop)
	wg.Wait()
	if n := failures.Load(); n > 0 {
		t.Errorf("%d of %d sockets failed", n, sockets)
	}
	return held
}

// holdSocket echoes once, answers pings, and drops the socket when it is told to:
// with a Close frame, a reset, or without a word.
func holdSocket(conn *websocket.Conn, how int, pinged func(), drop <-chan struct{}) error {
	defer conn.Close()
	conn.SetPingHandler(func(payload string) error {
		pinged()
		return conn.WriteControl(websocket.PongMessage, []byte(payload), time.Now().Add(wstest.Timeout))
	})
	conn.WriteMessage(websocket.TextMessage, []byte("hello"))
	if _, got, err := conn.ReadMessage(); err != nil || string(got) != "hello" {
		return fmt.Errorf("got %q, %w", got, err)
	}
	go func() {
		<-drop
		switch how {
		case 0:
			conn.WriteControl(websocket.CloseMessage, ws.ClosePayload(1000, "bye"), time.Now().Add(wstest.Timeout))
		case 1:
			conn.NetConn().(*net.TCPConn).SetLinger(0)
			conn.Close()
		case 2:
			conn.Close()
		}
	}()
	if _, _, err := conn.ReadMessage(); how == 0 && !websocket.IsCloseError(err, 1000) {
		return fmt.Errorf("closed with %w", err)
	}
	return nil
}

// Handshakes over the limit don't disturb those who are in.
func TestSoakFlood(t *testing.T) {
	p := wstest.StartProcess(t, "", "websocket {\nmax_connections 40\n}")
	before := figures(t, p)
	var (
		stop              atomic.Bool
		talkers, floods   sync.WaitGroup
		messages, refused atomic.Int64
	)
	for i := range 40 {
		peer := p.Dial(t, wstest.Protocols[i%2], "/") // plain and secure site: 20 each
		talkers.Go(func() {
			if err := talk(peer, &stop, time.Millisecond, &messages); err != nil {
				t.Error(err)
			}
			peer.Conn.Close()
		})
	}
	for range 20 { // up to the limit on the plain site
		peer := p.Dial(t, "http1", "/")
		defer peer.Conn.Close()
	}
	end := time.Now().Add(10 * time.Second)
	for range 20 {
		floods.Go(func() {
			for time.Now().Before(end) {
				_, res, err := smallDialer.Dial("ws://"+p.Plain, nil)
				if err == nil || res == nil || res.StatusCode != http.StatusServiceUnavailable {
					t.Errorf("a handshake over the limit: %v", err)
					return
				}
				refused.Add(1)
			}
		})
	}
	floods.Wait()
	stop.Store(true)
	talkers.Wait()
	t.Logf("%d handshakes refused beside %d messages echoed", refused.Load(), messages.Load())
	for _, s := range p.Sessions(t, "") {
		p.Call(http.MethodDelete, fmt.Sprint("/websocket/sessions/", s["id"]), nil)
	}
	expectBack(t, p, before)
}

// 200 reloads go by while 48 clients talk, in both modes on every protocol, with no option
// of reverse_proxy's. Nothing is lost and no byte is wrong.
func TestSoakReloads(t *testing.T) {
	site := "websocket /echo {\nkeepalive 500ms 30s\n}\nwebsocket /app passthrough {\nallowed_origins *\nkeepalive 500ms 30s\n}\n" +
		"respond /no-socket 204\nreverse_proxy " + wstest.EchoUpstream(t)
	p := wstest.StartProcess(t, "", site)
	paths := []string{"/echo", "/app"}
	for _, protocol := range wstest.Protocols { // what each leaves behind once is there before
		for _, path := range paths {
			peer := p.Dial(t, protocol, path)
			peer.Echo(ws.OpText, "hello")
			peer.SendClose(1000, "")
			peer.ExpectClose(1000, "")
			peer.Conn.Close()
		}
	}
	p.Reload(t, "", site+"\nheader X-Config first")
	before := figures(t, p)
	var (
		stop     atomic.Bool
		wg       sync.WaitGroup
		messages atomic.Int64
	)
	for i := range 48 {
		peer := p.Dial(t, wstest.Protocols[i%len(wstest.Protocols)], paths[i/len(wstest.Protocols)%2])
		wg.Go(func() {
			if err := talk(peer, &stop, time.Millisecond, &messages); err != nil {
				t.Errorf("%s: %v", peer.Name, err)
			}
			peer.Conn.Close()
		})
	}
	start := time.Now()
	for i := range 200 {
		p.Reload(t, "", fmt.Sprintf("%s\nheader X-Config %d", site, i))
	}
	took := time.Since(start)
	stop.Store(true)
	wg.Wait()
	t.Logf("200 reloads in %v, %d messages echoed", took.Round(time.Millisecond), messages.Load())
	expectBack(t, p, before)
}

// SIGTERM comes in the middle of 1,000 active sockets: each is told.
func TestSoakExit(t *testing.T) {
	const sockets = 1000
	p := wstest.StartProcess(t, "", "websocket")
	var (
		stop     atomic.Bool
		wg       sync.WaitGroup
		messages atomic.Int64
		told     atomic.Int64
	)
	var peers []*wstest.Peer
	for i := range sockets {
		protocol := "http1"
		if i%10 < len(wstest.Protocols) {
			protocol = wstest.Protocols[i%10]
		}
		peers = append(peers, p.Dial(t, protocol, "/"))
	}
	for _, peer := range peers {
		wg.Go(func() {
			err := talk(peer, &stop, 2*time.Second, &messages)
			var closed *ws.PeerCloseError
			if errors.As(err, &closed) && closed.Code == 1012 {
				told.Add(1)
			} else {
				t.Errorf("%s: %v", peer.Name, err)
			}
			io.Copy(io.Discard, peer.Reader)
			peer.Conn.Close()
		})
	}
	for messages.Load() < sockets {
		time.Sleep(10 * time.Millisecond)
	}
	start := time.Now()
	p.Terminate(t)
	p.ExpectExit(t)
	wg.Wait()
	t.Logf("%d of %d active sockets were told 1012, after %d messages; the process was gone after %v",
		told.Load(), sockets, messages.Load(), time.Since(start).Round(time.Millisecond))
}
