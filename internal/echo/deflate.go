package echo

import (
	"compress/flate"
	"errors"
	"io"
	"slices"
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
	// takeoverLevel is the lowest level that also searches for matches in messages of less
	// than 128 bytes, which profit most from context takeover.
	takeoverLevel = 7
	// A deflater takes its dictionary in before each message, in some 2 µs per KiB. So that
	// small messages don't cost many times as much as large ones, a dictionary is no longer
	// than minDict and dictFactor times the message.
	minDict    = 4 << 10
	dictFactor = 8
)

// A deflater takes up to 930 KiB and an inflater 41 KiB. While the handler waits for a client,
// it holds no deflater, and an inflater only after it has received a block of a message.
//
// klauspost's deflater is faster than the standard library's. Its inflater (v1.20.1) is as
// well, but one that is used again decodes a message with an empty distance tree, which is
// corrupt, by the tree of the message before.
var (
	inflaters         = sync.Pool{New: func() any { return flate.NewReader(nil) }}
	takeoverDeflaters = leveledDeflaters(takeoverLevel)
	// deflaters are by the bits of their window.
	deflaters = [...]sync.Pool{
		8: windowedDeflaters(8), 9: windowedDeflaters(9), 10: windowedDeflaters(10), 11: windowedDeflaters(11),
		12: windowedDeflaters(12), 13: windowedDeflaters(13), 14: windowedDeflaters(14),
		15: leveledDeflaters(deflateLevel),
	}
	// inflatedBuffers hold bytes that have just been inflated.
	inflatedBuffers = ws.NewBufferPool(4 << 10)
	// mediumBlocks hold bytes that are to be inflated. For uncompressed messages, a buffer
	// of this size would not be worth the copy.
	mediumBlocks = ws.NewBufferPool(16 << 10)
)

// leveledDeflaters returns a pool of deflaters with the largest window.
func leveledDeflaters(level int) sync.Pool {
	return sync.Pool{New: func() any {
		w, _ := klauspost.NewWriter(nil, level)
		return w
	}}
}

// windowedDeflaters returns a pool of deflaters with a window of 1<<bits bytes.
func windowedDeflaters(bits int) sync.Pool {
	return sync.Pool{New: func() any {
		w, _ := klauspost.NewWriterWindow(nil, 1<<bits)
		return w
	}}
}

// A history holds the end of the compressed messages so far, uncompressed, for compression
// with context takeover. Since a reply has the same contents as the message, it serves both
// directions, and it is all that a socket keeps between messages: inflaters and deflaters are
// given it as their dictionary.
type history struct {
	bytes []byte
	size  int // the most that is kept
}

// add adds p at the end.
func (h *history) add(p []byte) {
	p = p[max(0, len(p)-h.size):]
	if over := len(h.bytes) + len(p) - h.size; over > 0 {
		h.bytes = h.bytes[:copy(h.bytes, h.bytes[over:])]
	}
	h.bytes = append(h.bytes, p...)
}

// last returns the last n bytes, or all if there are less.
func (h *history) last(n int) []byte { return h.bytes[max(0, len(h.bytes)-n):] }

// clone returns a history that may be changed for a while.
func (h *history) clone() history { return history{slices.Clone(h.bytes), h.size} }

// deflated echoes a compressed message and compresses the reply. Without context takeover,
// nothing is kept between messages, so a socket without a message in flight costs no more
// than an uncompressed one.
func (c *Conn) deflated(h ws.Header, n int) error {
	in := c.beginCompressed(h, n)
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

// beginCompressed begins to receive a compressed message.
func (c *Conn) beginCompressed(h ws.Header, n int) *compressed {
	c.In.BeginPayload(h, n)
	c.history.size = c.Deflate.History()
	return &compressed{Conn: c, seen: &c.history, opcode: h.Opcode, fin: h.Fin, gathered: ws.NewGrowingBuffer(c.Buffers.Initial())}
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
	to       sink   // nil while the message is only checked
	err      error  // the error of the socket, to be returned after ahead
	failed   bool   // err has been returned
	restart  bool   // the inflater has ended before the message
	seen     *history
}

// A sink takes a message as it is inflated.
type sink interface {
	// take takes the next bytes, or with last set the rest.
	take(p []byte, last bool) error
	// pause is called before the handler waits for the client in the middle of the message.
	pause() error
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
	seen := c.history.clone()
	c.seen = &seen
	err := c.inflate()
	c.err, c.failed, c.restart, c.seen = nil, false, false, &c.history
	if err == errIncomplete {
		return nil
	}
	return err
}

// inflate inflates the message into the sink, if there is one.
func (c *compressed) inflate() error {
	inflater := inflaters.Get().(io.ReadCloser)
	defer inflaters.Put(inflater)
	if err := c.start(inflater); err != nil {
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
			err = c.to.take(plain.P[:n], last)
		}
		c.seen.add(plain.P[:n])
		if err != nil || last {
			return err
		}
	}
}

// start has the inflater read the message, or what is left of it.
func (c *compressed) start(inflater io.Reader) error {
	c.restart = false
	var dict []byte
	if c.Deflate.ClientTakeover {
		dict = c.seen.bytes
	}
	return inflater.(flate.Resetter).Reset(c, dict)
}

// readPlain reads inflated bytes until p is full or the message ends, until an error, or
// until the inflater must be started again.
func (c *compressed) readPlain(inflater io.Reader, p []byte) (n int, err error) {
	if c.restart {
		if err := c.start(inflater); err != nil {
			return 0, err
		}
	}
	for n < len(p) && err == nil {
		var k int
		k, err = inflater.Read(p[n:])
		n += k
		if err == io.EOF && c.more() {
			// A block that is marked as the last one does not end the message.
			c.restart = true
			return n, nil
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

// take adds p to a compressed reply.
func (m *reply) take(p []byte, last bool) error {
	m.countReceived(len(p))
	if m.deflater == nil {
		m.deflater = m.deflaters().Get().(*klauspost.Writer)
		m.deflater.ResetDict(m, m.dictionary(&m.history, len(p)))
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

// deflaters returns the pool for what was agreed.
func (c *Conn) deflaters() *sync.Pool {
	bits := c.Deflate.ServerBits()
	if bits == 15 && c.Deflate.ServerTakeover {
		return &takeoverDeflaters
	}
	return &deflaters[bits]
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

// dictionary returns what of the messages sent so far a deflater gets before one of n bytes.
func (c *Conn) dictionary(sent *history, n int) []byte {
	if !c.Deflate.ServerTakeover {
		return nil
	}
	return sent.last(minDict + dictFactor*n)
}

func (m *reply) putDeflater() {
	if m.deflater != nil {
		m.deflaters().Put(m.deflater)
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
