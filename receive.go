package caddywebsocket

import (
	"io"

	"github.com/gorilla/websocket"
)

// A receiver takes the frames of a client off a stream. It reads through one
// pooled buffer, in which payloads are unmasked where they lie, and holds none
// while it waits between frames. A buffer is small until the client has filled one:
// the rest of a frame may never come.
type receiver struct {
	in        input
	keepalive *keepalive
	flush     func() error // sends what was held back, before waiting
	deflate   bool         // permessage-deflate was negotiated
	pool      *bufferPool  // of the largest buffers

	buf       *buffer     // nil while waiting
	from      *bufferPool // whose buf is, or was
	r, w      int         // what is unread is buf.p[r:w]
	filled    bool        // the last read filled the buffer
	inMessage bool        // a message has begun and not ended
	mask      [4]byte     // of the frame whose payload is being read
	pos       int64       // how much of that payload has been read
	remaining int64       // and how much has not
}

// An input is a reader that can be waited for without holding a buffer.
type input interface {
	// Wait returns when a Read has something to return.
	Wait() error
	// Read returns bytes or an error, never both and never neither.
	io.Reader
}

// newReceiver returns a receiver of what comes in, with buffers of pool's size at
// most. It calls flush before it waits.
func newReceiver(in input, k *keepalive, pool *bufferPool, flush func() error, deflate bool) *receiver {
	return &receiver{in: in, keepalive: k, pool: pool, flush: flush, deflate: deflate}
}

// unread is what has been received and not yet read.
func (c *receiver) unread() []byte {
	if c.buf == nil {
		return nil
	}
	return c.buf.p[c.r:c.w]
}

// fill receives more bytes behind the unread ones, which may move.
func (c *receiver) fill() error {
	if err := c.flush(); err != nil {
		return err
	}
	if c.r == c.w {
		c.release()
		c.keepalive.listen()
		if err := c.in.Wait(); err != nil {
			return err
		}
		c.borrow()
	} else {
		c.compact()
	}
	room := c.buf.p[c.w:]
	n, err := c.read(room)
	c.filled = n == len(room)
	c.w += n
	return err
}

// borrow takes a buffer.
func (c *receiver) borrow() {
	if c.filled {
		c.from = c.from.larger(c.pool)
	} else {
		c.from = c.pool.first()
	}
	c.buf = c.from.get()
}

// compact makes room behind the unread bytes.
func (c *receiver) compact() {
	if c.filled && c.from != c.pool {
		old, from := c.buf, c.from
		c.borrow()
		c.w = copy(c.buf.p, old.p[c.r:c.w])
		from.put(old)
	} else if c.r > 0 {
		c.w = copy(c.buf.p, c.unread())
	}
	c.r = 0
}

// refill receives more bytes in place of those in the buffer, in the middle of
// something. It doesn't wait first: where that takes a byte off the stream, the
// byte would be all that comes in.
func (c *receiver) refill() error {
	if err := c.flush(); err != nil {
		return err
	}
	if c.buf == nil {
		c.borrow()
	}
	c.r, c.w = 0, 0
	n, err := c.read(c.buf.p)
	c.filled = n == len(c.buf.p)
	c.w = n
	return err
}

// read reads from the stream.
func (c *receiver) read(p []byte) (int, error) {
	c.keepalive.listen()
	n, err := c.in.Read(p)
	if err != nil {
		return 0, err
	}
	c.keepalive.heard()
	return n, nil
}

// more reports whether more has come in than has been read.
func (c *receiver) more() bool { return c.r < c.w }

// fits reports whether a frame with a header of n bytes fits in the largest buffer.
func (c *receiver) fits(h frameHeader, n int) bool { return h.length <= int64(c.pool.size-n) }

// skip reads n bytes and leaves them be.
func (c *receiver) skip(n int) { c.r += n }

// reply reads a frame that lies in the buffer in one piece, with a header of n
// bytes, and makes a server's frame of it where it lies, with the given first byte:
// its header is the shorter one, by the masking key.
func (c *receiver) reply(first byte, n, size int) []byte {
	start := c.r + n - replyHeaderLen(size)
	c.r += n + size
	frame := c.buf.p[start:c.r]
	appendFrameHeader(frame[:0], first, size)
	return frame
}

// release gives the buffer back, with whatever is unread in it.
func (c *receiver) release() {
	if c.buf != nil {
		c.from.put(c.buf)
		c.buf = nil
	}
	c.r, c.w = 0, 0
}

// next receives the header of the next frame, leaves it unread, and returns it
// with its length. What the frame breaks of RFC 6455 shows at the byte that
// breaks it.
func (c *receiver) next() (frameHeader, int, error) {
	for {
		p := c.unread()
		h, n, err := parseFrameHeader(p)
		if err != nil || len(p) > 0 && c.check(h, len(p)) != nil {
			return h, 0, firstBreach(p, c.check)
		}
		if n > 0 {
			return h, n, nil
		}
		if err := c.fill(); err != nil {
			return h, 0, err
		}
	}
}

// check checks a header of which have bytes are there against what a client
// may send at this point.
func (c *receiver) check(h frameHeader, have int) error {
	first := h.opcode == opText || h.opcode == opBinary
	switch {
	case h.rsv != 0 && (h.rsv != rsv1Bit || !c.deflate || !first):
		return protocolError("reserved bit set")
	case first && c.inMessage:
		return protocolError("new message before the end of the last")
	case h.opcode == opContinuation && !c.inMessage:
		return protocolError("continuation of no message")
	case have > 1 && !h.masked:
		return protocolError("frame not masked")
	case h.long:
		return protocolError("length not in its shortest form")
	}
	return nil
}

// begin reads the header that next returned.
func (c *receiver) begin(h frameHeader, n int) {
	c.r += n
	c.mask = h.mask
	c.pos, c.remaining = 0, h.length
	if !h.opcode.isControl() {
		c.inMessage = !h.fin
	}
}

// payload reads some of the current frame's payload into p, past the buffer
// when that is empty.
func (c *receiver) payload(p []byte) (int, error) {
	p = p[:min(int64(len(p)), c.remaining)]
	var n int
	if c.r < c.w {
		n = copy(p, c.unread())
		c.r += n
	} else {
		c.release()
		if err := c.flush(); err != nil {
			return 0, err
		}
		var err error
		if n, err = c.read(p); err != nil {
			return 0, err
		}
	}
	c.take(p[:n])
	return n, nil
}

// chunk reads some of the current frame's payload in place. It is valid until
// the next call.
func (c *receiver) chunk() ([]byte, error) {
	if c.r == c.w {
		if err := c.refill(); err != nil {
			return nil, err
		}
	}
	p := c.unread()
	p = p[:min(int64(len(p)), c.remaining)]
	c.r += len(p)
	c.take(p)
	return p, nil
}

// take unmasks the next bytes of the payload and counts them as read.
func (c *receiver) take(p []byte) {
	unmask(p, c.mask, c.pos)
	c.pos += int64(len(p))
	c.remaining -= int64(len(p))
}

// whole makes a frame lie unread in the buffer in one piece, header and all,
// and returns its payload, unmasked. The frame must fit in the buffer. For
// text, each piece is checked as it comes.
func (c *receiver) whole(h frameHeader, n int, text *utf8Checker) ([]byte, error) {
	size := int(h.length)
	for done := 0; ; {
		p := c.unread()[n:]
		p = p[:min(len(p), size)]
		unmask(p[done:], h.mask, int64(done))
		if text != nil && !text.write(p[done:]) {
			return nil, errInvalidUTF8
		}
		if done = len(p); done == size {
			return p, nil
		}
		if err := c.fill(); err != nil {
			return nil, err
		}
	}
}

// discard reads until the client's Close frame or until it can't make out
// frames any more. Nothing else of what it reads is of interest.
func (c *receiver) discard() error {
	for {
		for c.remaining > 0 {
			if _, err := c.chunk(); err != nil {
				return err
			}
		}
		h, n, err := c.next()
		if err != nil || h.opcode == opClose {
			return err
		}
		c.begin(h, n)
	}
}

// drain reads until the stream ends.
func (c *receiver) drain() {
	for c.refill() == nil {
	}
}

var errInvalidUTF8 = &closeError{websocket.CloseInvalidFramePayloadData, "text that is not UTF-8"}
