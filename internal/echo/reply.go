package echo

import (
	"github.com/klauspost/compress/flate"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// A reply is being written, with room for a frame header in front.
// Its buffer starts at the size of the receive buffer and grows as the message arrives.
type reply struct {
	*Conn
	ws.GrowingBuffer
	firstByte byte // the first byte of the next frame, without the FIN bit
	drop      int  // the number of bytes at the end of the message that are not sent
	uncounted int  // the number of uncompressed bytes not yet counted as sent

	deflater *flate.Writer // nil while none is needed
}

// beginReply begins a reply. The first byte of its first frame is given without the FIN
// bit.
func (c *Conn) beginReply(firstByte byte) *reply {
	c.reply = reply{Conn: c, GrowingBuffer: ws.NewGrowingBuffer(c.Buffers.Initial()), firstByte: firstByte}
	c.reply.N = ws.MaxServerHeader
	return &c.reply
}

// room returns the unused part of the buffer, which is never empty: a full buffer is
// exchanged for a larger one, and one of a block or more is sent as a frame first.
func (m *reply) room() ([]byte, error) {
	if m.Full() {
		most := ws.Blocks
		if m.deflater != nil {
			most = ws.LongBlocks // a deflater should not be held while a frame is sent
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

// countReceived counts n bytes of the message, uncompressed, as received.
func (m *reply) countReceived(n int) {
	m.Received.Add(0, n)
	m.uncounted += n
}

// send sends the contents of the buffer as one frame; finBit is ws.FinBit for the last
// frame of the message, else 0.
func (m *reply) send(finBit byte) error {
	size := m.N - m.drop - ws.MaxServerHeader
	frame := m.Buf.P[ws.MaxServerHeader-ws.HeaderLen(size) : m.N-m.drop]
	ws.AppendHeader(frame[:0], finBit|m.firstByte, size)
	m.Sent.Add(int(finBit/ws.FinBit), m.uncounted)
	m.uncounted = 0
	if err := m.Out.Send(frame, m.In.More()); err != nil {
		return err
	}
	m.firstByte = byte(ws.OpContinuation)
	m.N = ws.MaxServerHeader + copy(m.Buf.P[ws.MaxServerHeader:], m.Buf.P[m.N-m.drop:m.N])
	return nil
}
