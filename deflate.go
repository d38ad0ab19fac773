package caddywebsocket

import (
	"errors"
	"io"
	"sync"

	"github.com/gorilla/websocket"
	"github.com/klauspost/compress/flate"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

const (
	// flushMarker is what a deflater ends with when it is flushed, and what
	// senders leave off at the end of a message (RFC 7692 §7.2.1).
	flushMarker = "\x00\x00\xff\xff"
	// deflateTail ends a message for an inflater: with the marker, and a block
	// that says it is the last.
	deflateTail = flushMarker + "\x01\x00\x00\xff\xff"

	// deflateLevel is the lowest level whose output is no larger than that of
	// zlib's lowest.
	deflateLevel = 4
	// leastDeflated is the size below which a deflater doesn't look for matches.
	leastDeflated = 128
)

// A deflater takes 930 KiB and an inflater 41. No deflater is held while a client
// is waited for, and an inflater only for a message of which a block has come.
var (
	inflaters = sync.Pool{New: func() any { return flate.NewReader(nil) }}
	deflaters = sync.Pool{New: func() any {
		w, _ := flate.NewWriter(nil, deflateLevel)
		return w
	}}
	// plains hold what has just been inflated.
	plains = ws.NewBufferPool(4 << 10)
	// mediumBlocks hold what there is to inflate. For plain messages, a buffer
	// of this size would not be worth the copy.
	mediumBlocks = ws.NewBufferPool(16 << 10)
)

// deflated echoes a compressed message, compressed. No window is kept between
// messages, in either direction, so a socket without a message in flight costs
// no more than an uncompressed one.
func (e *echo) deflated(h ws.Header, n int) error {
	e.in.BeginPayload(h, n)
	c := &compressed{echo: e, opcode: h.Opcode, fin: h.Fin, gathered: ws.NewGrowingBuffer(e.handler.buffers.Initial())}
	defer c.gathered.Release()
	if c.err = c.gather(); c.err != nil {
		return c.inflate()
	}
	m := e.begin(byte(h.Opcode) | ws.RSV1Bit)
	m.drop = len(flushMarker)
	defer m.Release()
	defer m.giveBack()
	c.to = m
	if err := c.inflate(); err != nil {
		return err
	}
	c.gathered.Release()
	e.received.add(1, 0)
	return m.send(ws.FinBit)
}

var (
	errCorruptDeflate = &ws.CloseError{Code: websocket.CloseInvalidFramePayloadData, Reason: "corrupt compressed data"}
	// errUnfinished is where the check of a message ends that is not whole yet.
	errUnfinished = errors.New("unfinished message")
)

// A compressed is the payload of a compressed message, of all its frames, and
// deflateTail after it. It gathers up to a block before that is inflated.
type compressed struct {
	*echo
	opcode   ws.Opcode
	fin      bool // the current frame is the last
	gathered ws.GrowingBuffer
	ahead    []byte    // gathered and not yet inflated
	inTail   bool      // what is ahead is of the tail
	to       *outgoing // where it goes; nil while it is only checked
	err      error     // what ended the socket, as against the data, behind what is ahead
	failed   bool      // err has been reached
}

// gather receives a block of the message, or what there is until its end or an
// error.
func (c *compressed) gather() (err error) {
	g := &c.gathered
	g.N = 0
	defer func() { c.ahead = g.Buf.P[:g.N] }()
	for checked := 0; !c.whole() && !(g.Full() && g.From == ws.Blocks); {
		if !c.in.More() && c.to == nil && g.N > 4*checked {
			// The rest may never come, and what is wrong should show.
			checked = g.N
			if err := c.check(); err != nil {
				return err
			}
		}
		switch {
		case c.in.Remaining == 0:
			h, n, err := c.nextData()
			if err != nil {
				return err
			}
			c.in.BeginPayload(h, n)
			c.fin = h.Fin
		case g.Full():
			limit := mediumBlocks
			if g.From == mediumBlocks {
				limit = ws.Blocks
			}
			g.Grow(limit)
		default:
			n, err := c.in.ReadPayload(g.Buf.P[g.N:])
			if err != nil {
				return err
			}
			g.N += n
		}
	}
	return nil
}

// whole reports whether all of the message has been received.
func (c *compressed) whole() bool { return c.fin && c.in.Remaining == 0 }

// check finds what is wrong with what has gathered.
func (c *compressed) check() error {
	c.ahead, c.err = c.gathered.Buf.P[:c.gathered.N], errUnfinished
	err := c.inflate()
	c.err, c.failed = nil, false
	if err == errUnfinished {
		return nil
	}
	return err
}

// inflate inflates the message and has it compressed.
func (c *compressed) inflate() error {
	inflater := inflaters.Get().(io.ReadCloser)
	defer inflaters.Put(inflater)
	if err := inflater.(flate.Resetter).Reset(c, nil); err != nil {
		return err
	}
	plain := plains.Get()
	defer plains.Put(plain)
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

// readPlain reads until p is full, the message ends, or err says why it can't.
func (c *compressed) readPlain(inflater io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var k int
		k, err = inflater.Read(p[n:])
		n += k
		if err == io.EOF && c.more() {
			// A block was marked as the last one, which ends nothing here.
			err = inflater.(flate.Resetter).Reset(c, nil)
		}
	}
	return n, err
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
			c.failed = true
			return c.err
		case c.inTail:
			return io.EOF
		case c.whole():
			c.ahead, c.inTail = []byte(deflateTail), true
		default:
			if c.err = c.to.pause(); c.err == nil {
				c.err = c.gather()
			}
		}
	}
	return nil
}

// compress adds p to a compressed message.
func (m *outgoing) compress(p []byte, last bool) error {
	m.took(len(p))
	if m.deflater == nil {
		if last && len(p) < leastDeflated && m.N == ws.MaxServerHeader {
			return flate.StatelessDeflate(m, p, false, nil)
		}
		m.deflater = deflaters.Get().(*flate.Writer)
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

// Write takes compressed bytes.
func (m *outgoing) Write(p []byte) (int, error) {
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

// endBlock flushes the deflater and gives it back.
func (m *outgoing) endBlock() error {
	if m.deflater == nil {
		return nil
	}
	defer m.giveBack()
	return m.deflater.Flush()
}

func (m *outgoing) giveBack() {
	if m.deflater != nil {
		deflaters.Put(m.deflater)
		m.deflater = nil
	}
}

// pause gives up what can be before the client is waited for, in the middle of a
// message: the deflater, and a long buffer.
func (m *outgoing) pause() error {
	if err := m.endBlock(); err != nil || m.N <= ws.Blocks.Size {
		return err
	}
	if err := m.send(0); err != nil {
		return err
	}
	m.Exchange(m.handler.buffers.Initial())
	return nil
}
