package caddywebsocket

import (
	"compress/flate"
	"io"
	"sync"

	"github.com/gorilla/websocket"
)

const (
	// flushMarker is what a deflater ends with when it is flushed, and what
	// senders leave off at the end of a message (RFC 7692 §7.2.1).
	flushMarker = "\x00\x00\xff\xff"
	// deflateTail ends a message for an inflater: with the marker, and a block
	// that says it is the last.
	deflateTail = flushMarker + "\x01\x00\x00\xff\xff"
)

var (
	inflaters = sync.Pool{New: func() any { return flate.NewReader(nil) }}
	deflaters = sync.Pool{New: func() any {
		w, _ := flate.NewWriter(nil, flate.BestSpeed)
		return w
	}}
)

// deflated echoes a compressed message, compressed. No window is kept between
// messages, in either direction, so a socket without a message in flight costs
// no more than an uncompressed one.
func (e *echo) deflated(h frameHeader, n int) error {
	e.in.begin(h, n)
	src := &compressed{echo: e, fin: h.fin}
	inflater := inflaters.Get().(io.ReadCloser)
	defer inflaters.Put(inflater)
	if err := inflater.(flate.Resetter).Reset(src, nil); err != nil {
		return err
	}

	m := e.begin(byte(h.opcode) | rsv1Bit)
	m.drop = len(flushMarker)
	defer m.release()
	deflater := deflaters.Get().(*flate.Writer)
	defer deflaters.Put(deflater)
	deflater.Reset(m)

	plain := e.in.pool.get()
	defer e.in.pool.put(plain)
	text := textChecker(h.opcode)
	for size := int64(0); ; {
		k, err := inflater.Read(plain.p)
		if src.err != nil {
			return src.err
		}
		if err := e.checkSize(size, int64(k)); err != nil {
			return err
		}
		size += int64(k)
		m.took(k)
		if text != nil && !text.write(plain.p[:k]) {
			return errInvalidUTF8
		}
		if _, err := deflater.Write(plain.p[:k]); err != nil {
			return err
		}
		if err == io.EOF && src.more() {
			// A block was marked as the last one, which ends nothing here.
			err = inflater.(flate.Resetter).Reset(src, nil)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return errCorruptDeflate
		}
	}
	if src.err != nil {
		return src.err
	}
	if text != nil && !text.complete() {
		return errInvalidUTF8
	}
	if err := deflater.Flush(); err != nil {
		return err
	}
	e.received.add(1, 0)
	return m.send(finBit)
}

var errCorruptDeflate = &closeError{websocket.CloseInvalidFramePayloadData, "corrupt compressed data"}

// Write takes compressed bytes.
func (m *outgoing) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		room, err := m.room()
		if err != nil {
			return 0, err
		}
		n := copy(room, rest)
		m.n += n
		rest = rest[n:]
	}
	return len(p), nil
}

// A compressed is the payload of a compressed message, of all its frames, and
// deflateTail after it.
type compressed struct {
	*echo
	fin    bool   // the current frame is the last
	ahead  []byte // received, unmasked and not yet read
	inTail bool   // what is ahead is of the tail
	err    error  // what ended the socket, as against the data
}

func (c *compressed) Read(p []byte) (int, error) {
	if err := c.fill(); err != nil {
		return 0, err
	}
	n := copy(p, c.ahead)
	c.ahead = c.ahead[n:]
	return n, nil
}

// ReadByte keeps the inflater from reading further than it must.
func (c *compressed) ReadByte() (byte, error) {
	if err := c.fill(); err != nil {
		return 0, err
	}
	b := c.ahead[0]
	c.ahead = c.ahead[1:]
	return b, nil
}

// more reports whether the client sent more than what has been read.
func (c *compressed) more() bool {
	return c.fill() == nil && !c.inTail
}

// fill has something ahead, or fails.
func (c *compressed) fill() error {
	for len(c.ahead) == 0 {
		switch {
		case c.err != nil:
			return c.err
		case c.inTail:
			return io.EOF
		case c.in.remaining > 0:
			c.ahead, c.err = c.in.chunk()
		case c.fin:
			c.ahead, c.inTail = []byte(deflateTail), true
		default:
			var (
				h frameHeader
				n int
			)
			if h, n, c.err = c.nextData(); c.err == nil {
				c.in.begin(h, n)
				c.fin = h.fin
			}
		}
	}
	return nil
}
