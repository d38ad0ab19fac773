package caddywebsocket

import "github.com/klauspost/compress/flate"

// maxEchoFrame is the longest message, in bytes, that always comes back in one
// frame. A longer one comes back in frames of this size or more as it arrives.
const maxEchoFrame = blockPayload

// An outgoing is a message on its way out, with room for a header in front. It
// grows as its message comes, from the size of the receive buffer.
type outgoing struct {
	*echo
	growingBuffer
	first byte // the first byte of the next frame but for the fin bit
	drop  int  // how much of the end of the message isn't sent
	plain int  // how much of the message, before compression, has come and is not counted as sent

	deflater *flate.Writer // nil while none is needed
}

// begin begins a message with the given first byte, but for the fin bit.
func (e *echo) begin(first byte) *outgoing {
	e.reply = outgoing{echo: e, growingBuffer: newGrowingBuffer(e.handler.buffers.first()), first: first}
	e.reply.n = maxReplyHeader
	return &e.reply
}

// room gives the unused part of the buffer, which is not empty: a full one is
// exchanged for a larger, from a block on after it was sent as a frame.
func (m *outgoing) room() ([]byte, error) {
	if m.full() {
		most := blocks
		if m.deflater != nil {
			most = longBlocks // a deflater is not to wait until something is sent
		}
		if m.from.size >= most.size {
			if err := m.send(0); err != nil {
				return nil, err
			}
		}
		m.grow(longBlocks)
	}
	return m.buf.p[m.n:], nil
}

// took counts n bytes of the message as received.
func (m *outgoing) took(n int) {
	m.received.add(0, n)
	m.plain += n
}

// send sends what has gathered as one frame.
func (m *outgoing) send(fin byte) error {
	size := m.n - m.drop - maxReplyHeader
	frame := m.buf.p[maxReplyHeader-replyHeaderLen(size) : m.n-m.drop]
	appendFrameHeader(frame[:0], fin|m.first, size)
	m.sent.add(int(fin/finBit), m.plain)
	m.plain = 0
	if err := m.out.send(frame, m.in.more()); err != nil {
		return err
	}
	m.first = byte(opContinuation)
	m.n = maxReplyHeader + copy(m.buf.p[maxReplyHeader:], m.buf.p[m.n-m.drop:m.n])
	return nil
}
