package caddywebsocket

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// An upstream is an application that a test speaks for, frame by frame.
type upstream struct {
	net.Listener
	t *testing.T
}

func listenUpstream(t *testing.T) *upstream {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return &upstream{ln, t}
}

// forTest is the same upstream, for a subtest.
func (u *upstream) forTest(t *testing.T) *upstream { return &upstream{u.Listener, t} }

// accept accepts the next handshake and gives the application's end of it.
func (u *upstream) accept() *peer {
	u.t.Helper()
	_, app := u.acceptWith("")
	return app
}

// acceptWith is accept with more fields in the answer, and the request.
func (u *upstream) acceptWith(fields string) (*http.Request, *peer) {
	u.t.Helper()
	conn, err := u.Accept()
	if err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(func() { conn.Close() })
	br := bufio.NewReader(conn)
	req, err := http.ReadRequest(br)
	if err != nil {
		u.t.Fatal(err)
	}
	p := &peer{t: u.t, name: "upstream", rw: conn, br: br, deadline: conn.SetReadDeadline}
	p.write([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" + fields + "\r\n"))
	return req, p
}

// tunnel opens a socket over the protocol and gives both its ends.
func (u *upstream) tunnel(s *server, protocol string, header ...string) (client, app *peer) {
	u.t.Helper()
	accepted := make(chan *peer)
	go func() { accepted <- u.accept() }()
	client = s.dial(u.t, protocol, "/", header...)
	return client, <-accepted
}

// answerClose answers a Close frame. On HTTP/2 and HTTP/3 the stream may have
// ended with that.
func (p *peer) answerClose(code int) {
	p.rw.Write(clientFrame(ws.FinBit|byte(ws.OpClose), ws.ClosePayload(code, "")))
}

// serverFrame makes an unmasked frame.
func serverFrame(first byte, payload string) []byte {
	return ws.AppendFrame(nil, first, []byte(payload))
}

// readMasked receives a masked frame, as it came, and its payload in the clear.
func (p *peer) readMasked() (first byte, payload string) {
	p.t.Helper()
	p.deadline(time.Now().Add(patience))
	var raw []byte
	for {
		if len(raw) > 0 {
			h, n, err := ws.ParseHeader(raw)
			if err != nil || len(raw) > 1 && !h.Masked {
				p.t.Fatalf("%s: %x is no masked frame: %v", p.name, raw, err)
			}
			if n > 0 {
				body := make([]byte, h.Length)
				if _, err := io.ReadFull(p.br, body); err != nil {
					p.t.Fatal(err)
				}
				ws.Mask(body, h.Mask, 0)
				return raw[0], string(body)
			}
		}
		b, err := p.br.ReadByte()
		if err != nil {
			p.t.Fatalf("%s: reading: %v", p.name, err)
		}
		raw = append(raw, b)
	}
}

// expectMasked receives an unfragmented masked frame and compares it.
func (p *peer) expectMasked(op ws.Opcode, payload string) {
	p.t.Helper()
	if first, got := p.readMasked(); first != ws.FinBit|byte(op) || got != payload {
		p.t.Fatalf("%s: got frame %#x %.60q, want opcode %d %.60q", p.name, first, got, op, payload)
	}
}

// onEveryTunnel runs f on all protocols, over one server that supervises what
// reverse_proxy serves.
func onEveryTunnel(t *testing.T, options string, f func(t *testing.T, s *server, u *upstream, protocol string)) {
	t.Helper()
	u := listenUpstream(t)
	s := start(t, fmt.Sprintf("websocket passthrough {\nallowed_origins *\n%s\n}\nrespond /no-socket 204\nreverse_proxy %s", options, u.Addr()))
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			u := u.forTest(t)
			f(t, s, u, protocol)
		})
	}
}
