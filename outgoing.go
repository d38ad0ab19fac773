package caddywebsocket

// maxEchoFrame is the longest message, in bytes, that always comes back in one
// frame. A longer one comes back in frames of this size or more as it arrives.
const maxEchoFrame = 64 << 10

// blocks holds the buffers for messages that outgrow the receive buffer, with a
// little room for data that grow when they are compressed, longBlocks those for
// what goes on after a full block. Larger ones than these gain nothing.
var (
	blocks     = &bufferPool{size: maxReplyHeader + maxEchoFrame + 64}
	longBlocks = &bufferPool{size: maxReplyHeader + 256<<10}
)

// An outgoing is a message on its way out, with room for a header in front. It
// starts in a buffer of the size of the receive buffer, so that a peer has to
// send that much before it is given a larger one.
type outgoing struct {
	*echo
	first byte // the first byte of the next frame but for the fin bit
	buf   *buffer
	n     int         // how much of buf is in use
	drop  int         // how much of the end of the message isn't sent
	plain int         // how much of the message, before compression, has come and is not counted as sent
	from  *bufferPool // whose buf is
}

// begin begins a message with the given first byte, but for the fin bit.
func (e *echo) begin(first byte) *outgoing {
	e.reply = outgoing{echo: e, first: first, from: e.in.pool, buf: e.in.pool.get(), n: maxReplyHeader}
	return &e.reply
}

// room gives the unused part of the buffer, which is not empty: a full one is
// exchanged for a larger, from a block on after it was sent as a frame.
func (m *outgoing) room() ([]byte, error) {
	if m.n == len(m.buf.p) {
		if m.from.size >= blocks.size {
			if err := m.send(0); err != nil {
				return nil, err
			}
		}
		m.grow()
	}
	return m.buf.p[m.n:], nil
}

// grow exchanges the buffer for one of the next size, if there is one.
func (m *outgoing) grow() {
	for _, larger := range []*bufferPool{blocks, longBlocks} {
		if larger.size > m.from.size {
			buf := larger.get()
			copy(buf.p, m.buf.p[:m.n])
			m.release()
			m.from, m.buf = larger, buf
			return
		}
	}
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
	if err := m.out.send(frame, m.in.r < m.in.w); err != nil {
		return err
	}
	m.first = byte(opContinuation)
	m.n = maxReplyHeader + copy(m.buf.p[maxReplyHeader:], m.buf.p[m.n-m.drop:m.n])
	return nil
}

func (m *outgoing) release() { m.from.put(m.buf) }
