package wstest

import (
	"io"
	"net"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// ReadMessage receives a whole message and says in how many frames it came.
func (p *Peer) ReadMessage() (op ws.Opcode, payload []byte, frames int) {
	p.T.Helper()
	for {
		f := p.ReadFrame()
		if frames++; frames == 1 {
			op = f.Opcode()
		} else if f.Opcode() != ws.OpContinuation {
			p.T.Fatalf("%s: opcode %d in the middle of a message", p.Name, f.Opcode())
		}
		payload = append(payload, f.Payload...)
		if f.First&ws.FinBit != 0 {
			return op, payload, frames
		}
	}
}

// LongestFrame is the longest message that an echo sends in one frame.
const LongestFrame = 64 << 10

// ReadEvent receives a whole message or a control frame between two. The echo of
// a message that breaks off in a Close is left out.
func (p *Peer) ReadEvent() (first byte, payload []byte) {
	p.T.Helper()
	for frames := 1; ; frames++ {
		f := p.ReadFrame()
		switch {
		case f.Opcode().IsControl():
			return f.First, f.Payload
		case p.partial == nil && f.Opcode() == ws.OpContinuation, p.partial != nil && f.First&0x7f != 0:
			p.T.Fatalf("%s: first byte %#x, %d frames into a message", p.Name, f.First, frames)
		case p.partial == nil:
			p.partial = &Frame{First: f.First}
		case len(p.partial.Payload) == 0:
			p.T.Fatalf("%s: the first frame of a message is empty", p.Name)
		}
		p.partial.Payload = append(p.partial.Payload, f.Payload...)
		if f.First&ws.FinBit != 0 {
			first, payload = p.partial.First|ws.FinBit, p.partial.Payload
			if frames > 1 && len(payload) <= LongestFrame {
				p.T.Errorf("%s: %d bytes came in %d frames", p.Name, len(payload), frames)
			}
			p.partial = nil
			return first, payload
		}
	}
}

// ExpectCleanEnd makes sure that the server ends its side after its last frame,
// as against a reset.
func (p *Peer) ExpectCleanEnd() {
	p.T.Helper()
	if f, err := p.TryReadFrame(); err != io.EOF {
		p.T.Fatalf("%s: got %#x %.60q, %v, want the end", p.Name, f.First, f.Payload, err)
	}
}

// ExpectPingAt makes sure that the next frame is a Ping and comes after d.
func (p *Peer) ExpectPingAt(d time.Duration) {
	p.T.Helper()
	start := time.Now()
	p.ExpectPing()
	if waited := time.Since(start); waited != d {
		p.T.Fatalf("a ping came after %v, want %v", waited, d)
	}
}

// NextIsPing waits for a frame and tells whether it is a Ping.
func (p *Peer) NextIsPing() bool {
	p.T.Helper()
	first, err := p.Reader.Peek(1)
	if err != nil {
		p.T.Fatal(err)
	}
	return first[0] == ws.FinBit|byte(ws.OpPing)
}

// ExpectSilence makes sure that nothing comes for d.
func (p *Peer) ExpectSilence(d time.Duration) {
	p.T.Helper()
	conn := p.Conn.(net.Conn)
	conn.SetReadDeadline(time.Now().Add(d))
	if b, err := p.Reader.Peek(1); err == nil {
		p.T.Fatalf("got byte %#x, want silence", b)
	}
	conn.SetReadDeadline(time.Time{})
	p.Reader.Reset(conn)
}
