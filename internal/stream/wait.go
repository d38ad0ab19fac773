package stream

// A readWaiter waits until there is something to read from a socket of the
// system's own, an end or an error among it, without reading and so without a
// buffer.
type readWaiter interface{ wait() error }
