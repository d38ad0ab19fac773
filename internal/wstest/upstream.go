package wstest

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// An Upstream is an application that a test speaks for, frame by frame.
type Upstream struct {
	net.Listener
	t *testing.T
}

// ListenUpstream listens until the test ends.
func ListenUpstream(t *testing.T) *Upstream {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return &Upstream{ln, t}
}

// For is the same upstream, for a subtest.
func (u *Upstream) For(t *testing.T) *Upstream { return &Upstream{u.Listener, t} }

// AcceptSocket accepts the next handshake and gives the application's end of it.
func (u *Upstream) AcceptSocket() *Peer {
	u.t.Helper()
	_, app := u.AcceptSocketWith("")
	return app
}

// AcceptSocketWith is AcceptSocket with more fields in the answer, and the request.
func (u *Upstream) AcceptSocketWith(fields string) (*http.Request, *Peer) {
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
	p := &Peer{T: u.t, Name: "upstream", Conn: conn, Reader: br, SetReadDeadline: conn.SetReadDeadline}
	p.WriteRaw([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" + fields + "\r\n"))
	return req, p
}

// Tunnel opens a socket over the protocol and gives both its ends.
func (u *Upstream) Tunnel(s *Server, protocol string, header ...string) (client, app *Peer) {
	u.t.Helper()
	accepted := make(chan *Peer)
	go func() { accepted <- u.AcceptSocket() }()
	client = s.Dial(u.t, protocol, "/", header...)
	return client, <-accepted
}

// AnswerClose answers a Close frame. On HTTP/2 and HTTP/3 the stream may have
// ended with that.
func (p *Peer) AnswerClose(code int) {
	p.Conn.Write(ClientFrame(ws.FinBit|byte(ws.OpClose), ws.ClosePayload(code, "")))
}

// ServerFrame makes an unmasked frame.
func ServerFrame(first byte, payload string) []byte {
	return ws.AppendFrame(nil, first, []byte(payload))
}

// ReadMasked receives a masked frame, as it came, and its payload in the clear.
func (p *Peer) ReadMasked() (first byte, payload string) {
	p.T.Helper()
	p.SetReadDeadline(time.Now().Add(Timeout))
	var raw []byte
	for {
		if len(raw) > 0 {
			h, n, err := ws.ParseHeader(raw)
			if err != nil || len(raw) > 1 && !h.Masked {
				p.T.Fatalf("%s: %x is no masked frame: %v", p.Name, raw, err)
			}
			if n > 0 {
				body := make([]byte, h.Length)
				if _, err := io.ReadFull(p.Reader, body); err != nil {
					p.T.Fatal(err)
				}
				ws.Mask(body, h.Mask, 0)
				return raw[0], string(body)
			}
		}
		b, err := p.Reader.ReadByte()
		if err != nil {
			p.T.Fatalf("%s: reading: %v", p.Name, err)
		}
		raw = append(raw, b)
	}
}

// ExpectMasked receives an unfragmented masked frame and compares it.
func (p *Peer) ExpectMasked(op ws.Opcode, payload string) {
	p.T.Helper()
	if first, got := p.ReadMasked(); first != ws.FinBit|byte(op) || got != payload {
		p.T.Fatalf("%s: got frame %#x %.60q, want opcode %d %.60q", p.Name, first, got, op, payload)
	}
}
