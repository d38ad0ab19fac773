package e2e

import (
	"bufio"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// A status that is asked for is the answer to the handshake.
func TestControlsStatus(t *testing.T) {
	wstest.OnEveryProtocol(t, controlledSite, func(t *testing.T, s *wstest.Server, protocol string) {
		for query, want := range map[string]int{
			"status=300": 300, "status=401": 401, "status=404&close=1000": 404, "status=503&delay=5s": 503, "status=599": 599, "status=204": 204, "status=200": 200,
		} {
			p := s.TryDial(t, protocol, "/plain?"+query)
			if p.Response.StatusCode != want {
				t.Errorf("%s: status %d", query, p.Response.StatusCode)
			}
			body := p.Body()
			if accepts := want < 300 && (protocol == "http2" || protocol == "http3"); accepts || want == 204 {
				if body != "" {
					t.Errorf("%s: body %q, which would be taken for frames", query, body)
				}
			} else if line := query[:len("status=...")] + " was asked for\n"; body != line {
				t.Errorf("%s: body %q, want %q", query, body, line)
			}
			p.Conn.Close()
		}
		began := time.Now()
		p := s.TryDial(t, protocol, "/plain?status=503&accept_delay=300ms")
		if took := time.Since(began); p.Response.StatusCode != 503 || took < 300*time.Millisecond {
			t.Errorf("status %d after %s", p.Response.StatusCode, took)
		}
		p.Conn.Close()
	})
}

// A status below 200 is not the last one.
func TestControlsInterimStatus(t *testing.T) {
	s := wstest.Start(t, controlledSite)
	p := s.SendRequest(t, "GET /plain?status=103 HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	for _, want := range []int{103, 101} {
		p.Conn.(interface{ SetReadDeadline(time.Time) error }).SetReadDeadline(time.Now().Add(wstest.Timeout))
		res, err := http.ReadResponse(p.Reader, nil)
		if err != nil || res.StatusCode != want {
			t.Fatalf("got %v, %v, want %d", res, err, want)
		}
	}
	p.Echo(ws.OpText, "hello")
	p.Conn.Close()

	p = s.Dial(t, "http2", "/plain?status=199") // Go's client takes it
	p.Echo(ws.OpText, "hello")
	p.Conn.Close()

	p = s.TryDial(t, "http3", "/plain?status=103")
	if p.Response.StatusCode != 103 {
		t.Fatalf("status %d", p.Response.StatusCode)
	}
	stream := p.Conn.(interface {
		ReadResponse() (*http.Response, error)
	})
	if res, err := stream.ReadResponse(); err != nil || res.StatusCode != 200 {
		t.Fatalf("got %v, %v", res, err)
	}
	p.Reader = bufio.NewReader(p.Conn)
	p.Echo(ws.OpText, "hello")
	p.Conn.Close()
}

// What can't be understood gets one line that says why. A handler without the option looks at no
// parameters.
func TestControlsRefusals(t *testing.T) {
	wstest.OnEveryProtocol(t, controlledSite, func(t *testing.T, s *wstest.Server, protocol string) {
		for query, want := range map[string]string{
			"delay=5x":      `delay "5x": it must be a duration from 0s to 60s, such as 250ms or 5s; the parameters are abort, accept_delay, after, close, `,
			"nonsense":      `unknown parameter "nonsense"; the parameters are abort, `,
			"close=1&abort": `abort: it can't be given with close; the parameters are abort, `,
			"a%0D%0Ab=1":    `unknown parameter "a\r\nb"; the parameters are abort, `,
			"delay=%":       `query "delay=%": invalid URL escape "%"; the parameters are abort, `,
		} {
			p := s.TryDial(t, protocol, "/plain?"+query)
			body := p.Body()
			if p.Response.StatusCode != http.StatusBadRequest || !strings.HasPrefix(body, want) || strings.Count(body, "\n") != 1 {
				t.Errorf("%s: status %d, %q", query, p.Response.StatusCode, body)
			}
			if got := p.Response.Header.Get("Content-Type"); got != "text/plain; charset=utf-8" {
				t.Errorf("content type %q", got)
			}
			p.Conn.Close()
			p = s.Dial(t, protocol, "/off?"+query)
			p.Echo(ws.OpText, "hello")
			p.Conn.Close()
		}
	})
}

// waits is what Caddy logs when it holds an answer back.
const waits = "handshake waits for accept_delay"

// A client that leaves before it is answered, and a config that does, end the wait.
func TestControlsAcceptDelayEnds(t *testing.T) {
	s := wstest.Start(t, controlledSite)
	left := make(chan struct{})
	for _, protocol := range []string{"http1", "tls", "http2", "http3"} {
		go func() {
			defer func() { left <- struct{}{} }()
			if p, err := s.Connect(protocol, "/plain?accept_delay=60s"); err == nil { // after the reload
				p.Conn.Close()
			}
		}()
	}
	s.Logs.Await(t, waits, len(wstest.Protocols))
	conn := s.SendRequest(t, "GET /plain?accept_delay=60s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"X-Test: left\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	s.Logs.Await(t, waits, len(wstest.Protocols)+1)
	conn.Conn.Close()
	if socket := loggedSocket(t, s, "left"); socket != nil {
		t.Errorf("logged %v", socket)
	}
	s.Reload(t, "", controlledSite+"\nrespond /other 204")
	for range wstest.Protocols {
		select {
		case <-left:
		case <-time.After(wstest.Timeout):
			t.Fatal("a handshake outlives its config")
		}
	}
}
