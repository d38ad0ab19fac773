// Package stream carries the bytes of a socket over HTTP/1.1, HTTP/2 and HTTP/3.
//
// A [Conn] is a hijacked HTTP/1.1 connection, a [Body] the request body and the
// response of an Extended CONNECT. Both are a [Stream], so that what reads and writes
// frames needs to know nothing of HTTP.
package stream

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// A Stream carries the bytes of one socket. One goroutine may read from it while
// another one writes to it.
type Stream interface {
	// Wait returns when Read has something to return, so that no buffer has to be
	// held until then.
	Wait() error
	// Read returns bytes or an error, never both and never neither.
	io.Reader
	// Write writes all of p. It fails with os.ErrDeadlineExceeded when it has made no
	// progress for the write timeout.
	io.Writer
	// CloseWrite tells the peer that no more bytes follow, where that can be done
	// without losing what the peer still sends. It reports whether the caller has to
	// read until the end before Close: closing a connection with unread bytes resets
	// it, and the reset can overtake what was written last. With clean set, the peer
	// has nothing more to send.
	CloseWrite(clean bool) (drain bool)
	// Interrupt makes reads fail with os.ErrDeadlineExceeded, including one that is
	// under way, until Resume. It may be called from any goroutine at any time, even
	// after Close.
	Interrupt()
	// Resume lets reads succeed again after Interrupt, where the protocol allows it.
	Resume()
	// Cut makes reads and writes fail for good, including those under way. Like
	// Interrupt, it may be called from any goroutine at any time, even after Close.
	Cut()
	// Close closes the stream once everything written has been sent.
	Close() error

	// Carrier returns what carries this stream among others and may outlive it: the
	// *http3.Server on HTTP/3, the net.Conn on HTTP/2. It is nil on HTTP/1.1.
	Carrier() io.Closer
	// HasServerTimeouts reports whether a timeout of the HTTP server can end a read.
	HasServerTimeouts() bool
}

// ConnCtxKey is the key of the net.Conn that a request arrived on, in the context of
// the request.
const ConnCtxKey caddy.CtxKey = "websocket_conn"

// past is a deadline that has passed.
var past = time.Unix(1, 0)

// A Conn is a Stream over a hijacked connection.
type Conn struct {
	conn net.Conn
	in   source // reads from conn
	// socket is the connection that conn wraps. Where Caddy counts bytes for the
	// access log, conn hides the methods of socket.
	socket net.Conn
	waiter readWaiter // nil if Wait has to read
	small  []byte     // where Wait reads to then
	short  int        // how many reads in a row have brought less than small has room for
	// ready holds bytes that have been read and not yet returned: those that the HTTP
	// server read after the handshake, or those that Wait has read.
	ready []byte

	timeout     time.Duration
	deadline    time.Time // the write deadline that is set on conn
	writeFailed bool
	isCut       atomic.Bool
}

// NewConn returns a Stream over conn. The connection that conn wraps is socket, which
// may be conn itself; early are bytes that have already been read from it. A write
// fails when it has made no progress for writeTimeout.
func NewConn(conn, socket net.Conn, early []byte, writeTimeout time.Duration) *Conn {
	c := &Conn{
		conn: conn, in: source{r: conn}, socket: socket, waiter: newReadWaiter(socket), ready: early, timeout: writeTimeout,
	}
	if c.waiter == nil {
		c.small = make([]byte, waitSize)
	}
	return c
}

// manyShort is after how many short reads in a row the next is expected to be short, too.
const manyShort = 16

// Wait implements [Stream]. Without a waiter it has to read, and reads one byte: with TLS, the
// rest of the record is there with it. After many short messages it reads a whole one. It never
// does so at first, for passthrough would pass on the beginning of a long message by itself.
func (c *Conn) Wait() error {
	if len(c.ready) > 0 {
		return nil
	}
	if c.waiter != nil {
		return c.waiter.wait()
	}
	room := c.small[:1]
	if c.short >= manyShort {
		room = c.small
	}
	n, err := c.in.Read(room)
	if n == len(c.small) {
		c.short = 0
	}
	c.ready = room[:n]
	return err
}

// Read implements [Stream].
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.ready) > 0 {
		n := copy(p, c.ready)
		c.ready = c.ready[n:]
		return n, nil
	}
	n, err := c.in.Read(p)
	if c.short++; n >= waitSize {
		c.short = 0
	}
	return n, err
}

// maxTLSRecord is the most that one TLS record carries, in bytes (RFC 8446 §5.1).
const maxTLSRecord = 16 << 10

// Write implements [Stream].
func (c *Conn) Write(p []byte) (written int, err error) {
	if _, isTLS := c.socket.(*tls.Conn); isTLS {
		return c.writeRecords(p)
	}
	// A write that times out after some bytes were written doesn't say when that was,
	// so the time is measured in slices.
	slice := c.timeout / 16
	now := time.Now()
	for moved := now; ; {
		c.arm(now, slice, slice)
		n, err := c.conn.Write(p[written:])
		written += n
		if err == nil {
			return written, nil
		}
		now = time.Now()
		if n > 0 {
			moved = now
		}
		if now.Sub(moved) >= c.timeout || !errors.Is(err, os.ErrDeadlineExceeded) || c.isCut.Load() {
			c.writeFailed = true
			return written, err
		}
	}
}

// writeRecords is Write for TLS. A TLS connection can't be used any more after a
// timeout in the middle of a record, so the timeout applies to each record.
func (c *Conn) writeRecords(p []byte) (written int, err error) {
	for written < len(p) {
		c.arm(time.Now(), c.timeout, c.timeout/8)
		n, err := c.conn.Write(p[written:min(len(p), written+maxTLSRecord)])
		written += n
		if err != nil {
			c.writeFailed = true
			return written, err
		}
	}
	return written, nil
}

// arm makes sure that the write deadline is no nearer than least. It sets the
// deadline later than that by more, so that it need not be set for each small write.
func (c *Conn) arm(now time.Time, least, more time.Duration) {
	if c.deadline.Sub(now) >= least {
		return
	}
	c.deadline = now.Add(least + more)
	c.conn.SetWriteDeadline(c.deadline)
	if c.isCut.Load() {
		c.conn.SetWriteDeadline(past)
	}
}

// Carrier implements [Stream].
func (c *Conn) Carrier() io.Closer { return nil }

// HasServerTimeouts implements [Stream].
func (c *Conn) HasServerTimeouts() bool { return false }

// CloseWrite implements [Stream].
func (c *Conn) CloseWrite(clean bool) bool {
	halfCloser, ok := c.socket.(interface{ CloseWrite() error })
	return ok && halfCloser.CloseWrite() == nil || !clean
}

// Interrupt implements [Stream].
func (c *Conn) Interrupt() { c.conn.SetReadDeadline(past) }

// Resume implements [Stream].
func (c *Conn) Resume() {
	if !c.isCut.Load() {
		c.conn.SetReadDeadline(time.Time{})
	}
}

// Cut implements [Stream].
func (c *Conn) Cut() {
	c.isCut.Store(true)
	c.conn.SetDeadline(past)
}

// Close implements [Stream].
func (c *Conn) Close() error {
	if tlsConn, ok := c.socket.(*tls.Conn); ok && (c.writeFailed || c.isCut.Load()) {
		// Closing tlsConn would first try for five seconds to send an alert.
		tlsConn.NetConn().Close()
	}
	return c.conn.Close()
}
