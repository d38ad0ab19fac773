//go:build unix && !aix

package stream

import (
	"net"
	"syscall"
)

// newReadWaiter gives a readWaiter for conn, or nil if there can't be one.
func newReadWaiter(conn net.Conn) readWaiter {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return nil // what wraps a socket may have read from it already
	}
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil
	}
	w := &peeker{raw: raw}
	w.peek = w.readable
	return w
}

// A peeker is a readWaiter that peeks.
type peeker struct {
	raw    syscall.RawConn
	peek   func(fd uintptr) bool // readable, made a func value once
	asleep bool
	first  [1]byte
}

func (w *peeker) wait() error {
	w.asleep = false
	return w.raw.Read(w.peek)
}

// readable peeks the first time; when it is called again the poller has seen
// something.
func (w *peeker) readable(fd uintptr) bool {
	if w.asleep {
		return true
	}
	_, _, err := syscall.Recvfrom(int(fd), w.first[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	w.asleep = err == syscall.EAGAIN || err == syscall.EINTR
	return !w.asleep
}
