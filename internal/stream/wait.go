package stream

// A readWaiter waits until bytes, the end of the stream, or an error can be read from
// a socket of the operating system, without reading and thus without a buffer.
type readWaiter interface{ wait() error }
