// Package echo sends the messages of a WebSocket client back, with the same type and the
// same bytes.
package echo

import (
	"fmt"

	"github.com/gorilla/websocket"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// A Conn is an open socket. All fields but Script must be set before
// Messages is called.
type Conn struct {
	In      *ws.Reader
	Out     *ws.Writer
	Buffers *ws.BufferPool // of In
	Limit   int64          // the longest message, in bytes, after decompression; 0: no limit
	Pong    func(payload []byte)
	Deflate *ws.Deflate // nil: messages are not compressed
	// Received and Sent count messages and their bytes, uncompressed.
	Received, Sent *ws.Traffic
	Script         *Script // nil: messages are sent back as they are

	reply   reply // to the current message in long or deflated
	history history
	ping    func(payload []byte) // takes Pings; nil: they are answered at once
}

// Messages echoes messages until an error ends the socket, and returns that. It answers
// Pings, but not the Close frame, for which it returns a [*ws.PeerCloseError].
func (c *Conn) Messages() error {
	if c.Script != nil {
		return c.scripted()
	}
	for {
		// A socket that waits here, and not within next, has less on its stack.
		err := c.In.Await()
		if err == nil {
			err = c.next()
		}
		if err != nil {
			return err
		}
	}
}

// next echoes the next message or answers a control frame.
func (c *Conn) next() error {
	h, n, err := c.In.NextHeader()
	switch {
	case err != nil:
		return err
	case h.Opcode.IsControl():
		return c.control(h, n)
	case h.RSV == ws.RSV1Bit:
		return c.deflated(h, n)
	case h.Fin && c.In.Fits(h, n):
		return c.short(h, n)
	default:
		return c.long(h, n)
	}
}

// nextData returns the header of the next data frame and its length. It answers the
// control frames before it.
func (c *Conn) nextData() (ws.Header, int, error) {
	for {
		h, n, err := c.In.NextHeader()
		if err != nil || !h.Opcode.IsControl() {
			return h, n, err
		}
		if err := c.control(h, n); err != nil {
			return h, n, err
		}
	}
}

// control answers a control frame, but not a Close, for which it returns a
// [*ws.PeerCloseError].
func (c *Conn) control(h ws.Header, n int) error {
	payload, err := c.In.PeekPayload(h, n, nil)
	if err != nil {
		return err
	}
	switch {
	case h.Opcode == ws.OpClose:
		return ws.ParseClose(payload)
	case h.Opcode == ws.OpPing && c.ping == nil:
		return c.sendBack(ws.FinBit|byte(ws.OpPong), n, len(payload))
	case h.Opcode == ws.OpPing:
		c.ping(payload)
	default: // a Pong
		c.Pong(payload)
	}
	c.In.Skip(n + len(payload))
	return nil
}

// checkSize checks that a message of size bytes may grow by more bytes.
func (c *Conn) checkSize(size, more int64) error {
	if c.Limit > 0 && more > c.Limit-size {
		return &ws.CloseError{Code: websocket.CloseMessageTooBig, Reason: fmt.Sprintf("message of more than %d bytes", c.Limit)}
	}
	return nil
}

// short echoes a message that consists of one frame and fits in the receive buffer.
func (c *Conn) short(h ws.Header, n int) error {
	if err := c.checkSize(0, h.Length); err != nil {
		return err
	}
	text := ws.NewTextChecker(h.Opcode)
	payload, err := c.In.PeekPayload(h, n, text)
	if err != nil {
		return err
	}
	if text != nil && !text.Complete() {
		return ws.ErrInvalidUTF8
	}
	c.Received.Add(1, len(payload))
	c.Sent.Add(1, len(payload))
	return c.sendBack(ws.FinBit|byte(h.Opcode), n, len(payload))
}

// sendBack sends the frame that is in the receive buffer back without copying it.
func (c *Conn) sendBack(firstByte byte, n, size int) error {
	frame := c.In.Reply(firstByte, n, size)
	return c.Out.Send(frame, c.In.More())
}

// long echoes a message that has several frames or doesn't fit in the receive buffer: in
// one frame if it is no longer than ws.BlockPayload, else in several.
func (c *Conn) long(h ws.Header, n int) error {
	m := c.beginReply(byte(h.Opcode))
	defer m.Release()
	text := ws.NewTextChecker(h.Opcode)
	var size int64
	for {
		if err := c.checkSize(size, h.Length); err != nil {
			return err
		}
		size += h.Length
		c.In.BeginPayload(h, n)
		for c.In.Remaining > 0 {
			room, err := m.room()
			if err != nil {
				return err
			}
			k, err := c.In.ReadPayload(room)
			if err != nil {
				return err
			}
			if text != nil && !text.Write(room[:k]) {
				return ws.ErrInvalidUTF8
			}
			m.N += k
			m.countReceived(k)
		}
		if h.Fin {
			break
		}
		var err error
		if h, n, err = c.nextData(); err != nil {
			return err
		}
	}
	if text != nil && !text.Complete() {
		return ws.ErrInvalidUTF8
	}
	c.Received.Add(1, 0)
	return m.send(ws.FinBit)
}
