package caddywebsocket

import "sync"

// A buffer is a byte slice on loan from a bufferPool. Its length is the pool's
// size; who borrows it may shorten it.
type buffer struct{ p []byte }

// A bufferPool lends buffers of one size.
type bufferPool struct {
	size int
	pool sync.Pool
}

func newBufferPool(size int) *bufferPool { return &bufferPool{size: size} }

func (b *bufferPool) get() *buffer {
	if buf, ok := b.pool.Get().(*buffer); ok {
		return buf
	}
	return &buffer{make([]byte, b.size)}
}

func (b *bufferPool) put(buf *buffer) {
	buf.p = buf.p[:b.size]
	b.pool.Put(buf)
}

// blockPayload is what a block holds of a message, in bytes.
const blockPayload = 64 << 10

// blocks holds buffers for messages of blockPayload, with a little room for data
// that grow when they are compressed, longBlocks those for what goes on after a
// full block. Larger ones than these gain nothing, and more sizes between them
// would cost a message of 64 KiB a read and a copy.
var (
	smallBlocks = newBufferPool(4<<10 + maxFrameHeader)
	blocks      = newBufferPool(maxReplyHeader + blockPayload + 64)
	longBlocks  = newBufferPool(maxReplyHeader + 256<<10)
)

// first is the pool to begin with where buffers of b's size are the largest wanted.
func (b *bufferPool) first() *bufferPool {
	if b.size > smallBlocks.size {
		return smallBlocks
	}
	return b
}

// larger is the pool of the next larger buffers, of limit's size at most.
func (b *bufferPool) larger(limit *bufferPool) *bufferPool {
	for _, next := range [...]*bufferPool{smallBlocks, blocks, longBlocks} {
		if next.size > b.size && next.size < limit.size {
			return next
		}
	}
	return limit
}

// A growingBuffer gathers what a peer sends without end, or announces and may
// never send. It is exchanged for a larger one only when it is full, so what it
// takes is in proportion to what has come.
type growingBuffer struct {
	from *bufferPool // whose buf is
	buf  *buffer     // nil after release
	n    int         // how much of it is in use
}

func newGrowingBuffer(from *bufferPool) growingBuffer {
	return growingBuffer{from: from, buf: from.get()}
}

func (g *growingBuffer) full() bool { return g.n == len(g.buf.p) }

// grow exchanges the buffer for one of the next size, limit's at most.
func (g *growingBuffer) grow(limit *bufferPool) { g.exchange(g.from.larger(limit)) }

// exchange exchanges the buffer for one from another pool, in which its contents
// must fit.
func (g *growingBuffer) exchange(from *bufferPool) {
	if from == g.from {
		return
	}
	buf := from.get()
	copy(buf.p, g.buf.p[:g.n])
	g.from.put(g.buf)
	g.from, g.buf = from, buf
}

func (g *growingBuffer) release() {
	if g.buf != nil {
		g.from.put(g.buf)
		g.buf = nil
	}
}

// A copyBuffer is what a copy loop reads into: no larger than what the next read
// can be expected to bring, for that may take long.
type copyBuffer struct {
	pool *bufferPool // of those of the receive buffer's size
	from *bufferPool // whose buf is; nil while none is held
	buf  *buffer
	pos  int // how much has been read since the burst began
}

// smallCopies are for copies that wait and had little to do so far, largeCopies for
// those of much at a time.
var (
	smallCopies = newBufferPool(512)
	largeCopies = newBufferPool(maxCopy)
)

// maxCopy is the most that a copyBuffer has room for, in bytes.
const maxCopy = 128 << 10

// copyAlignment is what source and destination of a copy should be equally
// aligned to, in bytes: to cache lines. The kernel copies a third faster then.
const copyAlignment = 64

// newCopyBuffer returns a copyBuffer that reads little into buffers of pool's.
func newCopyBuffer(pool *bufferPool) copyBuffer { return copyBuffer{pool: pool} }

// next gives room for the next read, of which so much is expected, behind held
// bytes that were read already. What it gave before is given back.
func (c *copyBuffer) next(expected int64, held int) []byte {
	from := c.pool
	switch {
	case expected <= int64(smallCopies.size):
		from = smallCopies
	case expected > int64(c.pool.size):
		from = largeCopies
	}
	if c.from != from {
		c.giveBack()
		c.from, c.buf = from, from.get()
	}
	if from != largeCopies {
		c.pos = held
	}
	return c.buf.p[(c.pos-held)%copyAlignment:]
}

// took notes that a read has taken n bytes.
func (c *copyBuffer) took(n int) { c.pos += n }

// release gives the buffer back at the end of a burst.
func (c *copyBuffer) release() {
	c.giveBack()
	c.pos = 0
}

func (c *copyBuffer) giveBack() {
	if c.from != nil {
		c.from.put(c.buf)
		c.from, c.buf = nil, nil
	}
}
