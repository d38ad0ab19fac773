package echo

import (
	"compress/flate"
	"errors"
	"io"
	"sync"

	"github.com/gorilla/websocket"
	klauspost "github.com/klauspost/compress/flate"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

const (
	// flushMarker is what a deflater ends with when it is flushed. Senders remove it
	// from the end of a message (RFC 7692 §7.2.1).
	flushMarker = "\x00\x00\xff\xff"
	// deflateTail ends a message for an inflater: with the marker, and an empty block
	// that is marked as the last one.
	deflateTail = flushMarker + "\x01\x00\x00\xff\xff"
	// deflateLevel is the lowest level whose output is no larger than that of the
	// standard library's BestSpeed, except for messages of less than 128 bytes, in which
	// no level up to 6 searches for matches.
	deflateLevel = 4
)

// A deflater takes 930 KiB and an inflater 41 KiB. While the handler waits for a client,
// it holds no deflater, and an inflater only after it has received a block of a message.
//
// klauspost's deflater is faster than the standard library's. Its inflater (v1.20.1) is as
// well, but one that is used again decodes a message with an empty distance tree, which is
// corrupt, by the tree of the message before.
var (
	inflaters = sync.Pool{New: func() any { return flate.NewReader(nil) }}
	deflaters = sync.Pool{New: func() any {
		w, _ := klauspost.NewWriter(nil, deflateLevel)
		return w
	}}
	// inflatedBuffers hold bytes that have just been inflated.
	inflatedBuffers = ws.NewBufferPool(4 << 10)
	// mediumBlocks hold bytes that are to be inflated. For uncompressed messages, a buffer
	// of this size would not be worth the copy.
	mediumBlocks = ws.NewBufferPool(16 << 10)
)

// deflated echoes a compressed message and compresses the reply. No window is kept between
// messages in either direction, so a socket without a message in flight costs no more
// than an uncompressed one.
func (c *Conn) deflated(h ws.Header, n int) error {
	c.In.BeginPayload(h, n)
	in := &compressed{Conn: c, opcode: h.Opcode, fin: h.Fin, gathered: ws.NewGrowingBuffer(c.Buffers.Initial())}
	defer in.gathered.Release()
	if in.err = in.gather(); in.err != nil {
		return in.inflate()
	}
	m := c.beginReply(byte(h.Opcode) | ws.RSV1Bit)
	m.drop = len(flushMarker)
	defer m.Release()
	defer m.putDeflater()
	in.to = m
	if err := in.inflate(); err != nil {
		return err
	}
	in.gathered.Release()
	c.Received.Add(1, 0)
	return m.send(ws.FinBit)
}

var (
	errCorruptDeflate = &ws.CloseError{Code: websocket.CloseInvalidFramePayloadData, Reason: "corrupt compressed data"}
	// errIncomplete ends the check of a message that has not been received completely.
	errIncomplete = errors.New("incomplete message")
)

// A compressed reads the payload of a compressed message, over all its frames, followed by
// deflateTail. It receives up to a block before it inflates that.
type compressed struct {
	*Conn
	opcode   ws.Opcode
	fin      bool // the current frame is the last
	gathered ws.GrowingBuffer
	ahead    []byte // bytes that have been received and not yet inflated
	inTail   bool   // ahead is part of deflateTail
	to       *reply // the reply; nil while the message is only checked
	err      error  // the error of the socket, to be returned after ahead
	failed   bool   // err has been returned
}

// gather receives a block of the message, or less at its end or before an error.
func (c *compressed) gather() (err error) {
	g := &c.gathered
	g.N = 0
	defer func() { c.ahead = g.Buf.P[:g.N] }()
	for checked := 0; !c.complete() && (!g.Full() || g.From != ws.Blocks); {
		// The rest may never come, and an error should not go unnoticed until then. The
		// factor keeps a message in many pieces from being inflated for each.
		if !c.In.More() && c.to == nil && g.N > 16*checked {
			checked = g.N
			if err := c.check(); err != nil {
				return err
			}
		}
		switch {
		case c.In.Remaining == 0:
			h, n, err := c.nextData()
			if err != nil {
				return err
			}
			c.In.BeginPayload(h, n)
			c.fin = h.Fin
		case g.Full():
			limit := mediumBlocks
			if g.From == mediumBlocks {
				limit = ws.Blocks
			}
			g.Grow(limit)
		default:
			n, err := c.In.ReadPayload(g.Buf.P[g.N:])
			if err != nil {
				return err
			}
			g.N += n
		}
	}
	return nil
}

// complete reports whether the whole message has been received.
func (c *compressed) complete() bool { return c.fin && c.In.Remaining == 0 }

// check returns the error in the part of the message that has been received, if any.
func (c *compressed) check() error {
	c.ahead, c.err = c.gathered.Buf.P[:c.gathered.N], errIncomplete
	err := c.inflate()
	c.err, c.failed = nil, false
	if err == errIncomplete {
		return nil
	}
	return err
}

// inflate inflates the message and compresses it again into the reply, if there is one.
func (c *compressed) inflate() error {
	inflater := inflaters.Get().(io.ReadCloser)
	defer inflaters.Put(inflater)
	if err := inflater.(flate.Resetter).Reset(c, nil); err != nil {
		return err
	}
	plain := inflatedBuffers.Get()
	defer inflatedBuffers.Put(plain)
	text := ws.NewTextChecker(c.opcode)
	for size := int64(0); ; {
		n, err := c.readPlain(inflater, plain.P)
		last := err == io.EOF
		if err := c.checkSize(size, int64(n)); err != nil {
			return err
		}
		size += int64(n)
		switch {
		case text != nil && !text.Write(plain.P[:n]):
			return ws.ErrInvalidUTF8
		case c.failed:
			return c.err
		case err != nil && !last:
			return errCorruptDeflate
		case text != nil && last && !text.Complete():
			return ws.ErrInvalidUTF8
		}
		if c.to != nil {
			err = c.to.compress(plain.P[:n], last)
		}
		if err != nil || last {
			return err
		}
	}
}

// readPlain reads inflated bytes until p is full or the message ends, or until an error.
func (c *compressed) readPlain(inflater io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var k int
		k, err = inflater.Read(p[n:])
		n += k
		if err == io.EOF && c.more() {
			// A block that is marked as the last one does not end the message.
			err = inflater.(flate.Resetter).Reset(c, nil)
		}
	}
	return n, err
}

// Read returns the message before it is inflated.
func (c *compressed) Read(p []byte) (int, error) {
	if err := c.fill(); err != nil {
		return 0, err
	}
	n := copy(p, c.ahead)
	c.ahead = c.ahead[n:]
	return n, nil
}

// ReadByte makes c an [io.ByteReader], so that the inflater doesn't read more than it
// needs.
func (c *compressed) ReadByte() (byte, error) {
	if err := c.fill(); err != nil {
		return 0, err
	}
	b := c.ahead[0]
	c.ahead = c.ahead[1:]
	return b, nil
}

// more reports whether the message has bytes that have not been read.
func (c *compressed) more() bool {
	return c.fill() == nil && !c.inTail
}

// fill makes sure that ahead is not empty, or returns an error.
func (c *compressed) fill() error {
	for len(c.ahead) == 0 {
		switch {
		case c.err != nil:
			c.failed = true
			return c.err
		case c.inTail:
			return io.EOF
		case c.complete():
			c.ahead, c.inTail = []byte(deflateTail), true
		default:
			if c.err = c.to.pause(); c.err == nil {
				c.err = c.gather()
			}
		}
	}
	return nil
}

// compress adds p to a compressed reply.
func (m *reply) compress(p []byte, last bool) error {
	m.countReceived(len(p))
	if m.deflater == nil {
		m.deflater = deflaters.Get().(*klauspost.Writer)
		m.deflater.Reset(m)
	}
	if _, err := m.deflater.Write(p); err != nil {
		return err
	}
	switch {
	case last:
		return m.endBlock()
	case m.N > ws.Blocks.Size:
		return m.pause()
	}
	return nil
}

// Write adds compressed bytes to the reply. It is called by the deflater.
func (m *reply) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		room, err := m.room()
		if err != nil {
			return 0, err
		}
		n := copy(room, rest)
		m.N += n
		rest = rest[n:]
	}
	return len(p), nil
}

// endBlock flushes the deflater and returns it to its pool.
func (m *reply) endBlock() error {
	if m.deflater == nil {
		return nil
	}
	defer m.putDeflater()
	return m.deflater.Flush()
}

func (m *reply) putDeflater() {
	if m.deflater != nil {
		deflaters.Put(m.deflater)
		m.deflater = nil
	}
}

// pause releases the deflater and a long buffer before the handler waits for the client
// in the middle of a message.
func (m *reply) pause() error {
	if err := m.endBlock(); err != nil || m.N <= ws.Blocks.Size {
		return err
	}
	if err := m.send(0); err != nil {
		return err
	}
	m.Exchange(m.Buffers.Initial())
	return nil
}
