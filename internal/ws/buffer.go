package ws

import "sync"

// A Buffer is a byte slice borrowed from a [BufferPool].
type Buffer struct {
	// P has the pool's size when it is borrowed. The borrower may shorten it.
	P []byte
}

// A BufferPool lends buffers of one size.
type BufferPool struct {
	// Size is the length of each buffer, in bytes.
	Size int
	pool sync.Pool
}

// NewBufferPool returns a pool of buffers of size bytes.
func NewBufferPool(size int) *BufferPool { return &BufferPool{Size: size} }

// Get borrows a buffer, the contents of which are undefined.
func (b *BufferPool) Get() *Buffer {
	if buf, ok := b.pool.Get().(*Buffer); ok {
		return buf
	}
	return &Buffer{make([]byte, b.Size)}
}

// Put returns a buffer that was borrowed from this pool.
func (b *BufferPool) Put(buf *Buffer) {
	buf.P = buf.P[:b.Size]
	b.pool.Put(buf)
}

// BlockPayload is the most message payload, in bytes, that a buffer from [Blocks]
// is meant to hold.
const BlockPayload = 64 << 10

// Larger buffers than these gain nothing, and another size between SmallBlocks and
// Blocks would cost a message of 64 KiB one more read and copy.
var (
	// SmallBlocks lends buffers for a header and 4 KiB.
	SmallBlocks = NewBufferPool(4<<10 + MaxHeader)
	// Blocks lends buffers for a header and BlockPayload, with some room for data
	// that grows when it is compressed.
	Blocks = NewBufferPool(MaxServerHeader + BlockPayload + 64)
	// LongBlocks lends buffers for the part of a message that follows a full block.
	LongBlocks = NewBufferPool(MaxServerHeader + 128<<10)
)

// Initial returns the pool to borrow from first when b's buffers are the largest
// that may be used.
func (b *BufferPool) Initial() *BufferPool {
	if b.Size > SmallBlocks.Size {
		return SmallBlocks
	}
	return b
}

// larger returns the pool with the next larger buffers, but none larger than
// limit's.
func (b *BufferPool) larger(limit *BufferPool) *BufferPool {
	for _, next := range [...]*BufferPool{SmallBlocks, Blocks, LongBlocks} {
		if next.Size > b.Size && next.Size < limit.Size {
			return next
		}
	}
	return limit
}

// A GrowingBuffer collects data of unknown length. It is exchanged for a larger one
// only when it is full, so its size is in proportion to the data received, whatever
// length the peer has announced.
type GrowingBuffer struct {
	From *BufferPool // the pool that Buf was borrowed from
	Buf  *Buffer     // nil after Release
	N    int         // the number of bytes in use
}

// NewGrowingBuffer returns an empty buffer borrowed from a pool.
func NewGrowingBuffer(from *BufferPool) GrowingBuffer {
	return GrowingBuffer{From: from, Buf: from.Get()}
}

// Full reports whether all bytes of the buffer are in use.
func (g *GrowingBuffer) Full() bool { return g.N == len(g.Buf.P) }

// Grow exchanges the buffer for one of the next larger size, but none larger than
// limit's.
func (g *GrowingBuffer) Grow(limit *BufferPool) { g.Exchange(g.From.larger(limit)) }

// Exchange exchanges the buffer for one from another pool and keeps its contents,
// which must fit.
func (g *GrowingBuffer) Exchange(from *BufferPool) {
	if from == g.From {
		return
	}
	buf := from.Get()
	copy(buf.P, g.Buf.P[:g.N])
	g.From.Put(g.Buf)
	g.From, g.Buf = from, buf
}

// Release returns the buffer to its pool. It may be called more than once.
func (g *GrowingBuffer) Release() {
	if g.Buf != nil {
		g.From.Put(g.Buf)
		g.Buf = nil
	}
}

// A CopyBuffer is the buffer of a copy loop. It is no larger than the next read is
// expected to need, since the loop holds it while it waits for that read.
type CopyBuffer struct {
	// Pool lends the buffers for reads of ordinary size.
	Pool *BufferPool
	from *BufferPool // the pool that buf was borrowed from; nil while none is held
	buf  *Buffer
	pos  int // the number of bytes read since the last Release
}

var (
	smallCopies = NewBufferPool(512) // for loops that wait and have copied little so far
	largeCopies = NewBufferPool(MaxCopy)
)

// MaxCopy is the size of the largest buffer that a [CopyBuffer] uses, in bytes.
const MaxCopy = 128 << 10

// copyAlignment is the alignment, in bytes, that the source and the destination of
// a copy should share: that of a cache line. The kernel then copies a third faster.
const copyAlignment = 64

// NewCopyBuffer returns a CopyBuffer that borrows from pool for reads of ordinary
// size. It holds no buffer until Next is called.
func NewCopyBuffer(pool *BufferPool) CopyBuffer { return CopyBuffer{Pool: pool} }

// Next returns the buffer for the next read, which is expected to bring so many
// bytes and is to be preceded by held bytes that have already been read. The slice
// returned by the previous call is no longer valid.
func (c *CopyBuffer) Next(expected int64, held int) []byte {
	from := c.Pool
	switch {
	case expected <= int64(smallCopies.Size):
		from = smallCopies
	case expected > int64(c.Pool.Size):
		from = largeCopies
	}
	if c.from != from {
		c.putBuffer()
		c.from, c.buf = from, from.Get()
	}
	if from != largeCopies {
		c.pos = held
	}
	return c.buf.P[(c.pos-held)%copyAlignment:]
}

// Took records that a read has brought n bytes.
func (c *CopyBuffer) Took(n int) { c.pos += n }

// Release returns the buffer to its pool.
func (c *CopyBuffer) Release() {
	c.putBuffer()
	c.pos = 0
}

func (c *CopyBuffer) putBuffer() {
	if c.from != nil {
		c.from.Put(c.buf)
		c.from, c.buf = nil, nil
	}
}
