//go:build unix && !aix

package stream

import (
	"net"
	"syscall"
)

// newReadWaiter returns a readWaiter for conn, or nil if there can be none.
func newReadWaiter(conn net.Conn) readWaiter {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return nil // a wrapper may already have read bytes from its socket
	}
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil
	}
	w := &peeker{raw: raw}
	w.peek = w.readable
	return w
}

// A peeker is a readWaiter that peeks at the socket's receive buffer.
type peeker struct {
	raw     syscall.RawConn
	peek    func(fd uintptr) bool // the method value of readable, allocated once
	waiting bool                  // the last peek found nothing
	buf     [1]byte
}

func (w *peeker) wait() error {
	w.waiting = false
	return w.raw.Read(w.peek)
}

// readable reports whether the socket is readable. It peeks once: when it is called
// again, the poller has found that the socket is.
func (w *peeker) readable(fd uintptr) bool {
	if w.waiting {
		return true
	}
	_, _, err := syscall.Recvfrom(int(fd), w.buf[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	w.waiting = err == syscall.EAGAIN || err == syscall.EINTR
	return !w.waiting
}
