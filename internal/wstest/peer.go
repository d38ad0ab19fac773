package wstest

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
	"sync"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// Protocols are the ways to open a socket.
var Protocols = []string{"http1", "tls", "http2", "http3"}

// A Peer is a client that sees and sends single frames.
type Peer struct {
	T        *testing.T
	Name     string // of the protocol
	Response *http.Response
	Conn     io.ReadWriteCloser
	Reader   *bufio.Reader
	// SetReadDeadline bounds reads.
	SetReadDeadline func(time.Time) error
	// Scratch, if there is one, is where payloads go, instead of new memory.
	Scratch []byte
	partial *Frame // what has come of a message
}

// NewPeer makes a peer of the client's end of a socket that is open already. It
// waits for ever: in a bubble no time is lost with that.
func NewPeer(t *testing.T, name string, conn io.ReadWriteCloser) *Peer {
	return &Peer{T: t, Name: name, Conn: conn, Reader: bufio.NewReader(conn), SetReadDeadline: func(time.Time) error { return nil }}
}

// Body is the body of a response that is no socket.
func (p *Peer) Body() string {
	p.T.Helper()
	r := io.Reader(p.Response.Body)
	if p.Name == "http3" {
		r = p.Reader
	}
	p.SetReadDeadline(time.Now().Add(Timeout))
	body, err := io.ReadAll(r)
	if err != nil {
		p.T.Fatal(err)
	}
	return string(body)
}

// MaskingKey is the key that test clients mask with.
var MaskingKey = [4]byte{0x37, 0xfa, 0x21, 0x3d}

// ClientFrame makes a masked frame with the given first byte.
func ClientFrame(first byte, payload []byte) []byte {
	return ws.AppendMaskedFrame(nil, first, MaskingKey, payload)
}

// WriteRaw sends bytes as they are.
func (p *Peer) WriteRaw(data ...[]byte) {
	p.T.Helper()
	if _, err := p.Conn.Write(bytes.Join(data, nil)); err != nil {
		p.T.Fatalf("%s: writing: %v", p.Name, err)
	}
}

// Send sends an unfragmented frame.
func (p *Peer) Send(op ws.Opcode, payload string) {
	p.T.Helper()
	p.WriteRaw(ClientFrame(ws.FinBit|byte(op), []byte(payload)))
}

// SendClose sends a Close frame.
func (p *Peer) SendClose(code int, reason string) {
	p.T.Helper()
	p.Send(ws.OpClose, string(ws.ClosePayload(code, reason)))
}

// A Frame is what a peer received.
type Frame struct {
	First   byte
	Payload []byte
}

func (f Frame) Opcode() ws.Opcode { return ws.Opcode(f.First & 0xf) }

// TryReadFrame receives the next frame or the error that comes in its place.
func (p *Peer) TryReadFrame() (Frame, error) {
	p.SetReadDeadline(time.Now().Add(Timeout))
	var head [2]byte
	if _, err := io.ReadFull(p.Reader, head[:]); err != nil {
		return Frame{}, err
	}
	if head[1]&ws.MaskBit != 0 {
		return Frame{}, errors.New("masked frame from a server")
	}
	size := uint64(head[1])
	var long [8]byte
	switch size {
	case 126:
		if _, err := io.ReadFull(p.Reader, long[:2]); err != nil {
			return Frame{}, err
		}
		size = uint64(binary.BigEndian.Uint16(long[:]))
	case 127:
		if _, err := io.ReadFull(p.Reader, long[:]); err != nil {
			return Frame{}, err
		}
		size = binary.BigEndian.Uint64(long[:])
	}
	payload := p.Scratch
	if uint64(len(payload)) < size {
		payload = make([]byte, size)
	}
	payload = payload[:size]
	_, err := io.ReadFull(p.Reader, payload)
	return Frame{head[0], payload}, err
}

// ReadFrame receives the next frame.
func (p *Peer) ReadFrame() Frame {
	p.T.Helper()
	f, err := p.TryReadFrame()
	if err != nil {
		p.T.Fatalf("%s: reading: %v", p.Name, err)
	}
	return f
}

// Expect receives an unfragmented frame and compares it.
func (p *Peer) Expect(op ws.Opcode, payload string) {
	p.T.Helper()
	f := p.ReadFrame()
	if f.First != ws.FinBit|byte(op) || string(f.Payload) != payload {
		p.T.Fatalf("%s: got frame %#x %.60q of %d bytes, want opcode %d %.60q of %d bytes",
			p.Name, f.First, f.Payload, len(f.Payload), op, payload, len(payload))
	}
}

// ExpectPing receives a Ping of the server's own and gives its payload.
func (p *Peer) ExpectPing() string {
	p.T.Helper()
	f := p.ReadFrame()
	if f.First != ws.FinBit|byte(ws.OpPing) || len(f.Payload) != ws.PingPayloadLen {
		p.T.Fatalf("%s: got frame %#x %.60q, want a ping", p.Name, f.First, f.Payload)
	}
	return string(f.Payload)
}

// ExpectClose receives a Close frame with the given code, and a reason that
// contains reason.
func (p *Peer) ExpectClose(code int, reason string) {
	p.T.Helper()
	f := p.ReadFrame()
	if f.First != ws.FinBit|byte(ws.OpClose) {
		p.T.Fatalf("%s: got frame %#x %.60q, want a close frame", p.Name, f.First, f.Payload)
	}
	got, text := 1005, ""
	if len(f.Payload) > 0 {
		got, text = int(binary.BigEndian.Uint16(f.Payload)), string(f.Payload[2:])
	}
	if got != code || !strings.Contains(text, reason) {
		p.T.Fatalf("%s: closed with %d %q, want %d %q", p.Name, got, text, code, reason)
	}
}

// ExpectCloseAfterPings is ExpectClose after any number of pings.
func (p *Peer) ExpectCloseAfterPings(code int, reason string) {
	p.T.Helper()
	for {
		first, err := p.Reader.Peek(1)
		if err != nil {
			p.T.Fatalf("%s: reading: %v", p.Name, err)
		}
		if first[0] != ws.FinBit|byte(ws.OpPing) {
			p.ExpectClose(code, reason)
			return
		}
		p.ExpectPing()
	}
}

// ExpectEndAfterPings is ExpectEnd after any number of pings.
func (p *Peer) ExpectEndAfterPings() {
	p.T.Helper()
	for {
		if first, err := p.Reader.Peek(1); err != nil || first[0] != ws.FinBit|byte(ws.OpPing) {
			p.ExpectEnd()
			return
		}
		p.ExpectPing()
	}
}

// ExpectEnd makes sure that nothing comes any more, and that the server says so.
func (p *Peer) ExpectEnd() {
	p.T.Helper()
	f, err := p.TryReadFrame()
	if err == nil {
		p.T.Fatalf("%s: got frame %#x %.60q, want the end", p.Name, f.First, f.Payload)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.T.Fatalf("%s: the server didn't end", p.Name)
	}
	if (p.Name == "http1" || p.Name == "tls") && err != io.EOF {
		p.T.Fatalf("%s: the connection ended with %v, want a clean end", p.Name, err)
	}
}

// ExpectClosing receives a Close frame, answers it, and makes sure that the server ends.
func (p *Peer) ExpectClosing(code int, reason string) {
	p.T.Helper()
	p.ExpectClose(code, reason)
	p.SendClose(code, reason)
	p.ExpectEnd()
	p.Conn.Close()
}

// Follow plays each peer's part in a goroutine of its own, so that no socket waits longer for
// its client than the server allows. The function it returns waits until all are done, as the
// end of the test does.
func Follow(peers []*Peer, play func(*Peer)) (wait func()) {
	var playing sync.WaitGroup
	for _, p := range peers {
		playing.Go(func() { play(p) })
	}
	peers[0].T.Cleanup(playing.Wait)
	return playing.Wait
}

// Echo sends a message and receives it back.
func (p *Peer) Echo(op ws.Opcode, payload string) {
	p.T.Helper()
	p.Send(op, payload)
	p.Expect(op, payload)
}

// CloseNormally closes the socket as a client should.
func (p *Peer) CloseNormally() {
	p.T.Helper()
	p.SendClose(1000, "bye")
	p.ExpectClose(1000, "bye")
	p.ExpectEnd()
	p.Conn.Close()
}

// SendRequest sends a request of the test's own wording over plain HTTP.
func (s *Server) SendRequest(t *testing.T, request string) *Peer {
	t.Helper()
	conn, err := net.Dial("tcp", s.Plain)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	p := &Peer{T: t, Name: "raw", Conn: conn, Reader: bufio.NewReader(conn), SetReadDeadline: conn.SetReadDeadline}
	p.WriteRaw([]byte(request))
	return p
}

// ReadLine receives a line of text.
func (p *Peer) ReadLine() string {
	p.T.Helper()
	p.SetReadDeadline(time.Now().Add(Timeout))
	line, err := p.Reader.ReadString('\n')
	if err != nil {
		p.T.Fatal(err)
	}
	return line
}
