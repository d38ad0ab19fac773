package caddywebsocket

import (
	"io"
	"net"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// readMessage receives a whole message and says in how many frames it came.
func (p *peer) readMessage() (op ws.Opcode, payload []byte, frames int) {
	p.t.Helper()
	for {
		f := p.read()
		if frames++; frames == 1 {
			op = f.op()
		} else if f.op() != ws.OpContinuation {
			p.t.Fatalf("%s: opcode %d in the middle of a message", p.name, f.op())
		}
		payload = append(payload, f.payload...)
		if f.first&ws.FinBit != 0 {
			return op, payload, frames
		}
	}
}

// longestFrame is the longest message that an echo sends in one frame.
const longestFrame = 64 << 10

// readEvent receives a whole message or a control frame between two. The echo of
// a message that breaks off in a Close is left out.
func (p *peer) readEvent() (first byte, payload []byte) {
	p.t.Helper()
	for frames := 1; ; frames++ {
		f := p.read()
		switch {
		case f.op().IsControl():
			return f.first, f.payload
		case p.partial == nil && f.op() == ws.OpContinuation, p.partial != nil && f.first&0x7f != 0:
			p.t.Fatalf("%s: first byte %#x, %d frames into a message", p.name, f.first, frames)
		case p.partial == nil:
			p.partial = &frame{first: f.first}
		case len(p.partial.payload) == 0:
			p.t.Fatalf("%s: the first frame of a message is empty", p.name)
		}
		p.partial.payload = append(p.partial.payload, f.payload...)
		if f.first&ws.FinBit != 0 {
			first, payload = p.partial.first|ws.FinBit, p.partial.payload
			if frames > 1 && len(payload) <= longestFrame {
				p.t.Errorf("%s: %d bytes came in %d frames", p.name, len(payload), frames)
			}
			p.partial = nil
			return first, payload
		}
	}
}

// expectCleanEnd makes sure that the server ends its side after its last frame,
// as against a reset.
func (p *peer) expectCleanEnd() {
	p.t.Helper()
	if f, err := p.tryRead(); err != io.EOF {
		p.t.Fatalf("%s: got %#x %.60q, %v, want the end", p.name, f.first, f.payload, err)
	}
}

// expectPingAt makes sure that the next frame is a Ping and comes after d.
func (p *peer) expectPingAt(d time.Duration) {
	p.t.Helper()
	start := time.Now()
	p.expectPing()
	if waited := time.Since(start); waited != d {
		p.t.Fatalf("a ping came after %v, want %v", waited, d)
	}
}

// nextIsPing waits for a frame and tells whether it is a Ping.
func (p *peer) nextIsPing() bool {
	p.t.Helper()
	first, err := p.br.Peek(1)
	if err != nil {
		p.t.Fatal(err)
	}
	return first[0] == ws.FinBit|byte(ws.OpPing)
}

// expectSilence makes sure that nothing comes for d.
func (p *peer) expectSilence(d time.Duration) {
	p.t.Helper()
	conn := p.rw.(net.Conn)
	conn.SetReadDeadline(time.Now().Add(d))
	if b, err := p.br.Peek(1); err == nil {
		p.t.Fatalf("got byte %#x, want silence", b)
	}
	conn.SetReadDeadline(time.Time{})
	p.br.Reset(conn)
}
