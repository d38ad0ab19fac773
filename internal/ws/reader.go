package ws

import (
	"io"

	"github.com/gorilla/websocket"
)

// A receiver takes the frames of a client off a stream. It reads through one
// pooled buffer, in which payloads are unmasked where they lie, and holds none
// while it waits between frames. A buffer is small until the client has filled one:
// the rest of a frame may never come.
type Reader struct {
	in        input
	keepalive *Keepalive
	flush     func() error // sends what was held back, before waiting
	deflate   bool         // permessage-deflate was negotiated
	pool      *BufferPool  // of the largest buffers

	buf       *buffer     // nil while waiting
	from      *BufferPool // whose buf is, or was
	r, w      int         // what is unread is buf.p[r:w]
	filled    bool        // the last read filled the buffer
	inMessage bool        // a message has begun and not ended
	mask      [4]byte     // of the frame whose payload is being read
	pos       int64       // how much of that payload has been read
	Remaining int64       // and how much has not
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
func NewReader(in input, k *Keepalive, pool *BufferPool, flush func() error, deflate bool) *Reader {
	return &Reader{in: in, keepalive: k, pool: pool, flush: flush, deflate: deflate}
}

// unread is what has been received and not yet read.
func (c *Reader) unread() []byte {
	if c.buf == nil {
		return nil
	}
	return c.buf.P[c.r:c.w]
}

// fill receives more bytes behind the unread ones, which may move.
func (c *Reader) fill() error {
	if err := c.flush(); err != nil {
		return err
	}
	if c.r == c.w {
		c.Release()
		c.keepalive.Listen()
		if err := c.in.Wait(); err != nil {
			return err
		}
		c.borrow()
	} else {
		c.compact()
	}
	room := c.buf.P[c.w:]
	n, err := c.read(room)
	c.filled = n == len(room)
	c.w += n
	return err
}

// borrow takes a buffer.
func (c *Reader) borrow() {
	if c.filled {
		c.from = c.from.larger(c.pool)
	} else {
		c.from = c.pool.First()
	}
	c.buf = c.from.Get()
}

// compact makes room behind the unread bytes.
func (c *Reader) compact() {
	if c.filled && c.from != c.pool {
		old, from := c.buf, c.from
		c.borrow()
		c.w = copy(c.buf.P, old.P[c.r:c.w])
		from.Put(old)
	} else if c.r > 0 {
		c.w = copy(c.buf.P, c.unread())
	}
	c.r = 0
}

// refill receives more bytes in place of those in the buffer, in the middle of
// something. It doesn't wait first: where that takes a byte off the stream, the
// byte would be all that comes in.
func (c *Reader) refill() error {
	if err := c.flush(); err != nil {
		return err
	}
	if c.buf == nil {
		c.borrow()
	}
	c.r, c.w = 0, 0
	n, err := c.read(c.buf.P)
	c.filled = n == len(c.buf.P)
	c.w = n
	return err
}

// read reads from the stream.
func (c *Reader) read(p []byte) (int, error) {
	c.keepalive.Listen()
	n, err := c.in.Read(p)
	if err != nil {
		return 0, err
	}
	c.keepalive.Heard()
	return n, nil
}

// more reports whether more has come in than has been read.
func (c *Reader) More() bool { return c.r < c.w }

// fits reports whether a frame with a header of n bytes fits in the largest buffer.
func (c *Reader) Fits(h Header, n int) bool { return h.Length <= int64(c.pool.Size-n) }

// skip reads n bytes and leaves them be.
func (c *Reader) Skip(n int) { c.r += n }

// reply reads a frame that lies in the buffer in one piece, with a header of n
// bytes, and makes a server's frame of it where it lies, with the given first byte:
// its header is the shorter one, by the masking key.
func (c *Reader) Reply(first byte, n, size int) []byte {
	start := c.r + n - HeaderLen(size)
	c.r += n + size
	frame := c.buf.P[start:c.r]
	AppendHeader(frame[:0], first, size)
	return frame
}

// release gives the buffer back, with whatever is unread in it.
func (c *Reader) Release() {
	if c.buf != nil {
		c.from.Put(c.buf)
		c.buf = nil
	}
	c.r, c.w = 0, 0
}

// next receives the header of the next frame, leaves it unread, and returns it
// with its length. What the frame breaks of RFC 6455 shows at the byte that
// breaks it.
func (c *Reader) NextHeader() (Header, int, error) {
	for {
		p := c.unread()
		h, n, err := ParseHeader(p)
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
func (c *Reader) check(h Header, have int) error {
	first := h.Opcode == OpText || h.Opcode == OpBinary
	switch {
	case h.RSV != 0 && (h.RSV != RSV1Bit || !c.deflate || !first):
		return ProtocolError("reserved bit set")
	case first && c.inMessage:
		return ProtocolError("new message before the end of the last")
	case h.Opcode == OpContinuation && !c.inMessage:
		return ProtocolError("continuation of no message")
	case have > 1 && !h.Masked:
		return ProtocolError("frame not masked")
	case h.long:
		return ProtocolError("length not in its shortest form")
	}
	return nil
}

// begin reads the header that next returned.
func (c *Reader) Begin(h Header, n int) {
	c.r += n
	c.mask = h.Mask
	c.pos, c.Remaining = 0, h.Length
	if !h.Opcode.IsControl() {
		c.inMessage = !h.Fin
	}
}

// payload reads some of the current frame's payload into p, past the buffer
// when that is empty.
func (c *Reader) Payload(p []byte) (int, error) {
	p = p[:min(int64(len(p)), c.Remaining)]
	var n int
	if c.r < c.w {
		n = copy(p, c.unread())
		c.r += n
	} else {
		c.Release()
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
func (c *Reader) chunk() ([]byte, error) {
	if c.r == c.w {
		if err := c.refill(); err != nil {
			return nil, err
		}
	}
	p := c.unread()
	p = p[:min(int64(len(p)), c.Remaining)]
	c.r += len(p)
	c.take(p)
	return p, nil
}

// take unmasks the next bytes of the payload and counts them as read.
func (c *Reader) take(p []byte) {
	Mask(p, c.mask, c.pos)
	c.pos += int64(len(p))
	c.Remaining -= int64(len(p))
}

// whole makes a frame lie unread in the buffer in one piece, header and all,
// and returns its payload, unmasked. The frame must fit in the buffer. For
// text, each piece is checked as it comes.
func (c *Reader) Whole(h Header, n int, text *UTF8Checker) ([]byte, error) {
	size := int(h.Length)
	for done := 0; ; {
		p := c.unread()[n:]
		p = p[:min(len(p), size)]
		Mask(p[done:], h.Mask, int64(done))
		if text != nil && !text.Write(p[done:]) {
			return nil, ErrInvalidUTF8
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
func (c *Reader) Discard() error {
	for {
		for c.Remaining > 0 {
			if _, err := c.chunk(); err != nil {
				return err
			}
		}
		h, n, err := c.NextHeader()
		if err != nil || h.Opcode == OpClose {
			return err
		}
		c.Begin(h, n)
	}
}

// drain reads until the stream ends.
func (c *Reader) Drain() {
	for c.refill() == nil {
	}
}

var ErrInvalidUTF8 = &CloseError{websocket.CloseInvalidFramePayloadData, "text that is not UTF-8"}
