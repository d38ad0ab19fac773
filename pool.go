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
