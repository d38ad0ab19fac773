package caddywebsocket

import (
	"github.com/klauspost/compress/flate"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// maxEchoFrame is the longest message, in bytes, that always comes back in one
// frame. A longer one comes back in frames of this size or more as it arrives.
const maxEchoFrame = ws.BlockPayload

// An outgoing is a message on its way out, with room for a header in front. It
// grows as its message comes, from the size of the receive buffer.
type outgoing struct {
	*echo
	ws.GrowingBuffer
	first byte // the first byte of the next frame but for the fin bit
	drop  int  // how much of the end of the message isn't sent
	plain int  // how much of the message, before compression, has come and is not counted as sent

	deflater *flate.Writer // nil while none is needed
}

// begin begins a message with the given first byte, but for the fin bit.
func (e *echo) begin(first byte) *outgoing {
	e.reply = outgoing{echo: e, GrowingBuffer: ws.NewGrowingBuffer(e.handler.buffers.Initial()), first: first}
	e.reply.N = ws.MaxServerHeader
	return &e.reply
}

// room gives the unused part of the buffer, which is not empty: a full one is
// exchanged for a larger, from a block on after it was sent as a frame.
func (m *outgoing) room() ([]byte, error) {
	if m.Full() {
		most := ws.Blocks
		if m.deflater != nil {
			most = ws.LongBlocks // a deflater is not to wait until something is sent
		}
		if m.From.Size >= most.Size {
			if err := m.send(0); err != nil {
				return nil, err
			}
		}
		m.Grow(ws.LongBlocks)
	}
	return m.Buf.P[m.N:], nil
}

// took counts n bytes of the message as received.
func (m *outgoing) took(n int) {
	m.received.add(0, n)
	m.plain += n
}

// send sends what has gathered as one frame.
func (m *outgoing) send(fin byte) error {
	size := m.N - m.drop - ws.MaxServerHeader
	frame := m.Buf.P[ws.MaxServerHeader-ws.HeaderLen(size) : m.N-m.drop]
	ws.AppendHeader(frame[:0], fin|m.first, size)
	m.sent.add(int(fin/ws.FinBit), m.plain)
	m.plain = 0
	if err := m.out.Send(frame, m.in.More()); err != nil {
		return err
	}
	m.first = byte(ws.OpContinuation)
	m.N = ws.MaxServerHeader + copy(m.Buf.P[ws.MaxServerHeader:], m.Buf.P[m.N-m.drop:m.N])
	return nil
}
