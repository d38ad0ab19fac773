package caddywebsocket

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// protocols are the ways to open a socket.
var protocols = []string{"http1", "tls", "http2", "http3"}

// A peer is a client that sees and sends single frames.
type peer struct {
	t    *testing.T
	name string // of the protocol
	res  *http.Response
	rw   io.ReadWriteCloser
	br   *bufio.Reader
	// deadline bounds reads.
	deadline func(time.Time) error
	// scratch, if there is one, is where payloads go, instead of new memory.
	scratch []byte
	partial *frame // what has come of a message
}

// newPeer makes a peer of the client's end of a socket that is open already. It
// waits for ever: in a bubble no time is lost with that.
func newPeer(t *testing.T, name string, conn io.ReadWriteCloser) *peer {
	return &peer{t: t, name: name, rw: conn, br: bufio.NewReader(conn), deadline: func(time.Time) error { return nil }}
}

// body is the body of a response that is no socket.
func (p *peer) body() string {
	p.t.Helper()
	r := io.Reader(p.res.Body)
	if p.name == "http3" {
		r = p.br
	}
	p.deadline(time.Now().Add(patience))
	body, err := io.ReadAll(r)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(body)
}

// testMask is the key that test clients mask with.
var testMask = [4]byte{0x37, 0xfa, 0x21, 0x3d}

// clientFrame makes a masked frame with the given first byte.
func clientFrame(first byte, payload []byte) []byte {
	return ws.AppendMaskedFrame(nil, first, testMask, payload)
}

// write sends bytes as they are.
func (p *peer) write(data ...[]byte) {
	p.t.Helper()
	if _, err := p.rw.Write(bytes.Join(data, nil)); err != nil {
		p.t.Fatalf("%s: writing: %v", p.name, err)
	}
}

// send sends an unfragmented frame.
func (p *peer) send(op ws.Opcode, payload string) {
	p.t.Helper()
	p.write(clientFrame(ws.FinBit|byte(op), []byte(payload)))
}

// sendClose sends a Close frame.
func (p *peer) sendClose(code int, reason string) {
	p.t.Helper()
	p.send(ws.OpClose, string(ws.ClosePayload(code, reason)))
}

// A frame is what a peer received.
type frame struct {
	first   byte
	payload []byte
}

func (f frame) op() ws.Opcode { return ws.Opcode(f.first & 0xf) }

// tryRead receives the next frame or the error that comes in its place.
func (p *peer) tryRead() (frame, error) {
	p.deadline(time.Now().Add(patience))
	var head [2]byte
	if _, err := io.ReadFull(p.br, head[:]); err != nil {
		return frame{}, err
	}
	if head[1]&ws.MaskBit != 0 {
		return frame{}, errors.New("masked frame from a server")
	}
	size := uint64(head[1])
	var long [8]byte
	switch size {
	case 126:
		if _, err := io.ReadFull(p.br, long[:2]); err != nil {
			return frame{}, err
		}
		size = uint64(binary.BigEndian.Uint16(long[:]))
	case 127:
		if _, err := io.ReadFull(p.br, long[:]); err != nil {
			return frame{}, err
		}
		size = binary.BigEndian.Uint64(long[:])
	}
	payload := p.scratch
	if uint64(len(payload)) < size {
		payload = make([]byte, size)
	}
	payload = payload[:size]
	_, err := io.ReadFull(p.br, payload)
	return frame{head[0], payload}, err
}

// read receives the next frame.
func (p *peer) read() frame {
	p.t.Helper()
	f, err := p.tryRead()
	if err != nil {
		p.t.Fatalf("%s: reading: %v", p.name, err)
	}
	return f
}

// expect receives an unfragmented frame and compares it.
func (p *peer) expect(op ws.Opcode, payload string) {
	p.t.Helper()
	f := p.read()
	if f.first != ws.FinBit|byte(op) || string(f.payload) != payload {
		p.t.Fatalf("%s: got frame %#x %.60q of %d bytes, want opcode %d %.60q of %d bytes",
			p.name, f.first, f.payload, len(f.payload), op, payload, len(payload))
	}
}

// expectPing receives a Ping of the server's own and gives its payload.
func (p *peer) expectPing() string {
	p.t.Helper()
	f := p.read()
	if f.first != ws.FinBit|byte(ws.OpPing) || len(f.payload) != ws.PingPayloadLen {
		p.t.Fatalf("%s: got frame %#x %.60q, want a ping", p.name, f.first, f.payload)
	}
	return string(f.payload)
}

// expectClose receives a Close frame with the given code, and a reason that
// contains reason.
func (p *peer) expectClose(code int, reason string) {
	p.t.Helper()
	f := p.read()
	if f.first != ws.FinBit|byte(ws.OpClose) {
		p.t.Fatalf("%s: got frame %#x %.60q, want a close frame", p.name, f.first, f.payload)
	}
	got, text := 1005, ""
	if len(f.payload) > 0 {
		got, text = int(binary.BigEndian.Uint16(f.payload)), string(f.payload[2:])
	}
	if got != code || !strings.Contains(text, reason) {
		p.t.Fatalf("%s: closed with %d %q, want %d %q", p.name, got, text, code, reason)
	}
}

// expectCloseAfterPings is expectClose after any number of pings.
func (p *peer) expectCloseAfterPings(code int, reason string) {
	p.t.Helper()
	for {
		first, err := p.br.Peek(1)
		if err != nil {
			p.t.Fatalf("%s: reading: %v", p.name, err)
		}
		if first[0] != ws.FinBit|byte(ws.OpPing) {
			p.expectClose(code, reason)
			return
		}
		p.expectPing()
	}
}

// expectEndAfterPings is expectEnd after any number of pings.
func (p *peer) expectEndAfterPings() {
	p.t.Helper()
	for {
		if first, err := p.br.Peek(1); err != nil || first[0] != ws.FinBit|byte(ws.OpPing) {
			p.expectEnd()
			return
		}
		p.expectPing()
	}
}

// expectEnd makes sure that nothing comes any more, and that the server says so.
func (p *peer) expectEnd() {
	p.t.Helper()
	f, err := p.tryRead()
	if err == nil {
		p.t.Fatalf("%s: got frame %#x %.60q, want the end", p.name, f.first, f.payload)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Fatalf("%s: the server didn't end", p.name)
	}
	if (p.name == "http1" || p.name == "tls") && err != io.EOF {
		p.t.Fatalf("%s: the connection ended with %v, want a clean end", p.name, err)
	}
}

// echo sends a message and receives it back.
func (p *peer) echo(op ws.Opcode, payload string) {
	p.t.Helper()
	p.send(op, payload)
	p.expect(op, payload)
}

// bye closes the socket as a client should.
func (p *peer) bye() {
	p.t.Helper()
	p.sendClose(1000, "bye")
	p.expectClose(1000, "bye")
	p.expectEnd()
	p.rw.Close()
}

// raw sends a request of the test's own wording over plain HTTP.
func (s *server) raw(t *testing.T, request string) *peer {
	t.Helper()
	conn, err := net.Dial("tcp", s.plain)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	p := &peer{t: t, name: "raw", rw: conn, br: bufio.NewReader(conn), deadline: conn.SetReadDeadline}
	p.write([]byte(request))
	return p
}

// line receives a line of text.
func (p *peer) line() string {
	p.t.Helper()
	p.deadline(time.Now().Add(patience))
	line, err := p.br.ReadString('\n')
	if err != nil {
		p.t.Fatal(err)
	}
	return line
}
