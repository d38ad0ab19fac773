//go:build unix

package caddywebsocket

import (
	"net"
	"syscall"
)

// waitReadable waits until conn has bytes, an end or an error to read, without
// reading and so without a buffer. It reports false, at once, for what is not
// a socket of the system's own.
func waitReadable(conn net.Conn) (waited bool, err error) {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return false, nil
	}
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return true, err
	}
	var first [1]byte
	asleep := false
	err = raw.Read(func(fd uintptr) bool {
		if asleep {
			return true // woken: there is something
		}
		_, _, err := syscall.Recvfrom(int(fd), first[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		asleep = err == syscall.EAGAIN || err == syscall.EINTR
		return !asleep
	})
	return true, err
}
