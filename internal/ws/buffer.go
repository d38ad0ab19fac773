package ws

import "sync"

// A buffer is a byte slice on loan from a bufferPool. Its length is the pool's
// size; who borrows it may shorten it.
type buffer struct{ P []byte }

// A bufferPool lends buffers of one size.
type BufferPool struct {
	Size int
	pool sync.Pool
}

func NewBufferPool(size int) *BufferPool { return &BufferPool{Size: size} }

func (b *BufferPool) Get() *buffer {
	if buf, ok := b.pool.Get().(*buffer); ok {
		return buf
	}
	return &buffer{make([]byte, b.Size)}
}

func (b *BufferPool) Put(buf *buffer) {
	buf.P = buf.P[:b.Size]
	b.pool.Put(buf)
}

// blockPayload is what a block holds of a message, in bytes.
const BlockPayload = 64 << 10

// blocks holds buffers for messages of blockPayload, with a little room for data
// that grow when they are compressed, longBlocks those for what goes on after a
// full block. Larger ones than these gain nothing, and more sizes between them
// would cost a message of 64 KiB a read and a copy.
var (
	smallBlocks = NewBufferPool(4<<10 + MaxHeader)
	Blocks      = NewBufferPool(MaxServerHeader + BlockPayload + 64)
	LongBlocks  = NewBufferPool(MaxServerHeader + 256<<10)
)

// first is the pool to begin with where buffers of b's size are the largest wanted.
func (b *BufferPool) First() *BufferPool {
	if b.Size > smallBlocks.Size {
		return smallBlocks
	}
	return b
}

// larger is the pool of the next larger buffers, of limit's size at most.
func (b *BufferPool) larger(limit *BufferPool) *BufferPool {
	for _, next := range [...]*BufferPool{smallBlocks, Blocks, LongBlocks} {
		if next.Size > b.Size && next.Size < limit.Size {
			return next
		}
	}
	return limit
}

// A growingBuffer gathers what a peer sends without end, or announces and may
// never send. It is exchanged for a larger one only when it is full, so what it
// takes is in proportion to what has come.
type GrowingBuffer struct {
	From *BufferPool // whose buf is
	Buf  *buffer     // nil after release
	N    int         // how much of it is in use
}

func NewGrowingBuffer(from *BufferPool) GrowingBuffer {
	return GrowingBuffer{From: from, Buf: from.Get()}
}

func (g *GrowingBuffer) Full() bool { return g.N == len(g.Buf.P) }

// grow exchanges the buffer for one of the next size, limit's at most.
func (g *GrowingBuffer) Grow(limit *BufferPool) { g.Exchange(g.From.larger(limit)) }

// exchange exchanges the buffer for one from another pool, in which its contents
// must fit.
func (g *GrowingBuffer) Exchange(from *BufferPool) {
	if from == g.From {
		return
	}
	buf := from.Get()
	copy(buf.P, g.Buf.P[:g.N])
	g.From.Put(g.Buf)
	g.From, g.Buf = from, buf
}

func (g *GrowingBuffer) Release() {
	if g.Buf != nil {
		g.From.Put(g.Buf)
		g.Buf = nil
	}
}

// A copyBuffer is what a copy loop reads into: no larger than what the next read
// can be expected to bring, for that may take long.
type CopyBuffer struct {
	Pool *BufferPool // of those of the receive buffer's size
	from *BufferPool // whose buf is; nil while none is held
	buf  *buffer
	pos  int // how much has been read since the burst began
}

// smallCopies are for copies that wait and had little to do so far, largeCopies for
// those of much at a time.
var (
	smallCopies = NewBufferPool(512)
	largeCopies = NewBufferPool(MaxCopy)
)

// maxCopy is the most that a copyBuffer has room for, in bytes.
const MaxCopy = 128 << 10

// copyAlignment is what source and destination of a copy should be equally
// aligned to, in bytes: to cache lines. The kernel copies a third faster then.
const copyAlignment = 64

// newCopyBuffer returns a copyBuffer that reads little into buffers of pool's.
func NewCopyBuffer(pool *BufferPool) CopyBuffer { return CopyBuffer{Pool: pool} }

// next gives room for the next read, of which so much is expected, behind held
// bytes that were read already. What it gave before is given back.
func (c *CopyBuffer) Next(expected int64, held int) []byte {
	from := c.Pool
	switch {
	case expected <= int64(smallCopies.Size):
		from = smallCopies
	case expected > int64(c.Pool.Size):
		from = largeCopies
	}
	if c.from != from {
		c.giveBack()
		c.from, c.buf = from, from.Get()
	}
	if from != largeCopies {
		c.pos = held
	}
	return c.buf.P[(c.pos-held)%copyAlignment:]
}

// took notes that a read has taken n bytes.
func (c *CopyBuffer) Took(n int) { c.pos += n }

// release gives the buffer back at the end of a burst.
func (c *CopyBuffer) Release() {
	c.giveBack()
	c.pos = 0
}

func (c *CopyBuffer) giveBack() {
	if c.from != nil {
		c.from.Put(c.buf)
		c.from, c.buf = nil, nil
	}
}
