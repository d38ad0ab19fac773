package ws

import "sync/atomic"

// A Traffic counts the messages of one direction and their payload bytes. It may be read
// while it is written.
type Traffic struct {
	messages, bytes atomic.Int64
}

// Add adds messages and bytes.
func (t *Traffic) Add(messages, bytes int) {
	t.messages.Add(int64(messages))
	t.bytes.Add(int64(bytes))
}

// Set sets the counts.
func (t *Traffic) Set(messages, bytes int64) {
	t.messages.Store(messages)
	t.bytes.Store(bytes)
}

// Messages returns the number of messages.
func (t *Traffic) Messages() int64 { return t.messages.Load() }

// Bytes returns the number of payload bytes.
func (t *Traffic) Bytes() int64 { return t.bytes.Load() }
