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

// A copyBuffer is what a copy loop reads into: a small buffer where the next read
// may take long, a large one where it won't.
type copyBuffer struct {
	pool  *bufferPool // of small ones
	buf   *buffer     // nil while none is held
	large bool
	pos   int // how much has been read since the burst began
}

// copyBlocks holds the large ones.
var copyBlocks = &bufferPool{size: 128 << 10}

// copyAlignment is what source and destination of a copy should be equally
// aligned to, in bytes: to cache lines. The kernel copies a third faster then.
const copyAlignment = 64

// next gives room for the next read, in place of what it gave before, behind
// held bytes that were read already.
func (c *copyBuffer) next(large bool, held int) []byte {
	if c.buf == nil || c.large != large {
		c.giveBack()
		c.large = large
		c.buf = c.lender().get()
	}
	if !large {
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
	if c.buf != nil {
		c.lender().put(c.buf)
		c.buf = nil
	}
}

func (c *copyBuffer) lender() *bufferPool {
	if c.large {
		return copyBlocks
	}
	return c.pool
}
