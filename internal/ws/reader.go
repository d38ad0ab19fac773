package ws

import (
	"io"
)

// A Reader reads the frames of a client from a stream. It reads into one pooled
// buffer, in which payloads are unmasked in place, and holds none while it waits
// between frames. Its buffer is small until the client has filled one, since the rest
// of a frame may never come. A Reader is for one goroutine.
//
// Its methods return a [*CloseError] if the client violates RFC 6455, at the first
// byte that does, and otherwise the errors of the stream.
type Reader struct {
	in        Input
	keepalive *Keepalive
	flush     func() error // called before waiting
	deflate   bool         // permessage-deflate was negotiated
	pool      *BufferPool  // the pool with the largest buffers

	buf       *Buffer     // nil while waiting
	from      *BufferPool // the pool that buf was borrowed from
	r, w      int         // the bytes received and not yet read are buf.P[r:w]
	filled    bool        // the last read filled the buffer
	inMessage bool        // a message has begun and not ended
	mask      [4]byte     // the masking key of the current frame
	pos       int64       // the number of payload bytes of the current frame read so far

	// Remaining is the number of payload bytes of the current frame that have not
	// been read yet.
	Remaining int64
}

// An Input is a reader that can be waited for without holding a buffer.
type Input interface {
	// Wait returns when Read has something to return, or with the error that Read
	// would return.
	Wait() error
	// Read returns bytes or an error, never both and never neither.
	io.Reader
}

// NewReader returns a Reader of the stream in, which uses buffers of at most pool's
// size. It calls flush before it waits for the client, so that replies that were held
// back are sent. With deflate set, frames may be marked as compressed (RFC 7692 §6);
// they are not decompressed.
func NewReader(in Input, k *Keepalive, pool *BufferPool, flush func() error, deflate bool) *Reader {
	return &Reader{in: in, keepalive: k, pool: pool, flush: flush, deflate: deflate}
}

// unread returns the bytes that have been received and not yet read.
func (r *Reader) unread() []byte {
	if r.buf == nil {
		return nil
	}
	return r.buf.P[r.r:r.w]
}

// fill receives more bytes after the unread ones, which may move. It holds no buffer
// while it waits if there are none.
func (r *Reader) fill() error {
	if err := r.flush(); err != nil {
		return err
	}
	if r.r == r.w {
		r.Release()
		r.keepalive.Listen()
		if err := r.in.Wait(); err != nil {
			return err
		}
		r.borrow()
	} else {
		r.compact()
	}
	room := r.buf.P[r.w:]
	n, err := r.read(room)
	r.filled = n == len(room)
	r.w += n
	return err
}

// Await waits until there are received bytes that have not been read.
func (r *Reader) Await() error {
	if r.More() {
		return nil
	}
	return r.fill()
}

// borrow borrows a buffer, a larger one than the last if that was filled.
func (r *Reader) borrow() {
	if r.filled {
		r.from = r.from.larger(r.pool)
	} else {
		r.from = r.pool.Initial()
	}
	r.buf = r.from.Get()
}

// compact makes room after the unread bytes.
func (r *Reader) compact() {
	if r.filled && r.from != r.pool {
		old, from := r.buf, r.from
		r.borrow()
		r.w = copy(r.buf.P, old.P[r.r:r.w])
		from.Put(old)
	} else if r.r > 0 {
		r.w = copy(r.buf.P, r.unread())
	}
	r.r = 0
}

// refill replaces the bytes in the buffer with newly received ones. It doesn't wait
// first: where Wait takes the first bytes, those would be all that is received.
func (r *Reader) refill() error {
	if err := r.flush(); err != nil {
		return err
	}
	if r.buf == nil {
		r.borrow()
	}
	r.r, r.w = 0, 0
	n, err := r.read(r.buf.P)
	r.filled = n == len(r.buf.P)
	r.w = n
	return err
}

// read reads from the stream and records it for keepalive.
func (r *Reader) read(p []byte) (int, error) {
	r.keepalive.Listen()
	n, err := r.in.Read(p)
	if err != nil {
		return 0, err
	}
	r.keepalive.Heard()
	return n, nil
}

// More reports whether bytes have been received that are not yet read.
func (r *Reader) More() bool { return r.r < r.w }

// Fits reports whether the whole frame, with a header of n bytes, fits in the largest
// buffer.
func (r *Reader) Fits(h Header, n int) bool { return h.Length <= int64(r.pool.Size-n) }

// Skip discards n unread bytes, which must have been received.
func (r *Reader) Skip(n int) { r.r += n }

// Reply turns the frame for which PeekPayload was called into a server's frame with the
// same payload, in place, and returns that. The client's header is n bytes long, the
// payload size bytes; a server's header is shorter, since it has no masking key. The
// frame counts as read and is valid until the next call.
func (r *Reader) Reply(first byte, n, size int) []byte {
	start := r.r + n - HeaderLen(size)
	r.r += n + size
	frame := r.buf.P[start:r.r]
	AppendHeader(frame[:0], first, size)
	return frame
}

// Release returns the buffer to its pool and discards unread bytes.
func (r *Reader) Release() {
	if r.buf != nil {
		r.from.Put(r.buf)
		r.buf = nil
	}
	r.r, r.w = 0, 0
}

// NextHeader waits for the header of the next frame and returns it with its length in
// bytes. The header stays unread until BeginPayload, Skip or Reply is called.
func (r *Reader) NextHeader() (Header, int, error) {
	for {
		p := r.unread()
		h, n, err := ParseHeader(p)
		if err != nil || len(p) > 0 && r.check(h, len(p)) != nil {
			return h, 0, firstViolation(p, r.check)
		}
		if n > 0 {
			return h, n, nil
		}
		if err := r.fill(); err != nil {
			return h, 0, err
		}
	}
}

// check checks a header, of which have bytes have been received, against what a client
// may send at this point of the stream.
func (r *Reader) check(h Header, have int) error {
	newMessage := h.Opcode == OpText || h.Opcode == OpBinary
	switch {
	case h.RSV != 0 && (h.RSV != RSV1Bit || !r.deflate || !newMessage):
		return protocolError("reserved bit set")
	case newMessage && r.inMessage:
		return protocolError("new message before the end of the previous one")
	case h.Opcode == OpContinuation && !r.inMessage:
		return protocolError("continuation without a message")
	case have > 1 && !h.Masked:
		return protocolError("unmasked frame from a client")
	case h.long:
		return protocolError("length not in its shortest form")
	}
	return nil
}

// BeginPayload reads the header that NextHeader returned, so that ReadPayload can read
// the payload after it.
func (r *Reader) BeginPayload(h Header, n int) {
	r.r += n
	r.mask = h.Mask
	r.pos, r.Remaining = 0, h.Length
	if !h.Opcode.IsControl() {
		r.inMessage = !h.Fin
	}
}

// ReadPayload reads up to len(p) bytes of the current frame's payload into p, unmasked,
// and returns their number. If nothing has been received yet, it reads into p directly.
func (r *Reader) ReadPayload(p []byte) (int, error) {
	p = p[:min(int64(len(p)), r.Remaining)]
	var n int
	if r.r < r.w {
		n = copy(p, r.unread())
		r.r += n
	} else {
		r.Release()
		if err := r.flush(); err != nil {
			return 0, err
		}
		var err error
		if n, err = r.read(p); err != nil {
			return 0, err
		}
	}
	r.take(p[:n])
	return n, nil
}

// chunk reads some of the current frame's payload and returns it in place, unmasked. It
// is valid until the next call.
func (r *Reader) chunk() ([]byte, error) {
	if r.r == r.w {
		if err := r.refill(); err != nil {
			return nil, err
		}
	}
	p := r.unread()
	p = p[:min(int64(len(p)), r.Remaining)]
	r.r += len(p)
	r.take(p)
	return p, nil
}

// take unmasks p, the next bytes of the payload, and counts them as read.
func (r *Reader) take(p []byte) {
	Mask(p, r.mask, r.pos)
	r.pos += int64(len(p))
	r.Remaining -= int64(len(p))
}

// PeekPayload receives the whole frame, unmasks its payload in place, and returns it.
// The frame, whose header h of n bytes NextHeader returned, must fit in the largest
// buffer. It stays unread until Skip or Reply is called. If text is not nil, the payload
// is checked as it is received.
func (r *Reader) PeekPayload(h Header, n int, text *UTF8Checker) ([]byte, error) {
	size := int(h.Length)
	for done := 0; ; {
		p := r.unread()[n:]
		p = p[:min(len(p), size)]
		Mask(p[done:], h.Mask, int64(done))
		if text != nil && !text.Write(p[done:]) {
			return nil, ErrInvalidUTF8
		}
		if done = len(p); done == size {
			return p, nil
		}
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
}

// DiscardToClose discards frames until the header of the client's Close frame has been
// received, for which it returns nil, or until the stream ends or is invalid.
func (r *Reader) DiscardToClose() error {
	for {
		for r.Remaining > 0 {
			if _, err := r.chunk(); err != nil {
				return err
			}
		}
		h, n, err := r.NextHeader()
		if err != nil || h.Opcode == OpClose {
			return err
		}
		r.BeginPayload(h, n)
	}
}

// Drain discards bytes until the stream ends.
func (r *Reader) Drain() {
	for r.refill() == nil {
	}
}
