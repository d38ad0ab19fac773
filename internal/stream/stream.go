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
	"github.com/quic-go/quic-go/http3"
)

// A stream carries the bytes of one socket: the connection on HTTP/1.1, the
// request body and the response on HTTP/2 and HTTP/3.
type Stream interface {
	// Wait returns when a Read has something to return, so that nobody has to
	// hold a buffer until then.
	Wait() error
	// Read returns bytes or an error, never both and never neither.
	io.Reader
	// Write writes all of p. It fails when nothing moves for write_timeout.
	io.Writer
	// CloseWrite tells the peer that nothing more comes, where that doesn't cut off
	// what the peer still sends. It reports whether that has to be read before
	// Close: to close a connection with unread bytes resets it, and the reset can
	// overtake what was sent last. With clean set the peer has said its last.
	CloseWrite(clean bool) (drain bool)
	// Interrupt makes reads fail, one under way too, until resume.
	Interrupt()
	Resume()
	// Cut makes the calls above fail for good, those under way too. Like interrupt
	// it may come from any goroutine at any time, even after Close.
	Cut()
	// Close gives the stream up once everything written has been sent.
	Close() error

	// HTTP3Server returns the server of an HTTP/3 stream, nil on other versions.
	HTTP3Server() *http3.Server
	// HasServerTimeouts reports whether timeouts of the HTTP server still end reads.
	HasServerTimeouts() bool
}

// connCtxKey is where a request's context has the connection that it came on.
const ConnCtxKey caddy.CtxKey = "websocket_conn"

// past is a deadline that has expired.
var past = time.Unix(1, 0)

// A connStream is a stream over a connection of its own.
type Conn struct {
	conn net.Conn
	in   source // conn
	// socket is what lies under conn. Where Caddy counts the bytes for an access
	// log, conn hides all of its methods.
	socket net.Conn
	waiter readWaiter
	// ready holds bytes that came in already: what the HTTP server had read past
	// the handshake, or the byte that wait waited for.
	ready []byte
	first [1]byte

	timeout  time.Duration
	deadline time.Time // of writes, as it is set on conn
	failed   bool      // a write did
	isCut    atomic.Bool
}

// newConnStream makes a stream of conn, with early bytes already read from it.
func NewConn(conn, socket net.Conn, early []byte, writeTimeout time.Duration) *Conn {
	return &Conn{
		conn: conn, in: source{r: conn}, socket: socket, waiter: newReadWaiter(socket), ready: early, timeout: writeTimeout,
	}
}

func (s *Conn) Wait() error {
	if len(s.ready) > 0 {
		return nil
	}
	if s.waiter != nil {
		return s.waiter.wait()
	}
	// TLS decrypts a record at a time, so the rest of it is there when this is.
	n, err := s.in.Read(s.first[:])
	s.ready = s.first[:n]
	return err
}

func (s *Conn) Read(p []byte) (int, error) {
	if len(s.ready) > 0 {
		n := copy(p, s.ready)
		s.ready = s.ready[n:]
		return n, nil
	}
	return s.in.Read(p)
}

// maxTLSRecord is the most that one TLS record carries (RFC 8446 §5.1).
const maxTLSRecord = 16 << 10

func (s *Conn) Write(p []byte) (int, error) {
	// A TLS connection that timed out in the middle of a record is of no more
	// use, so the time is for one record. Others are given it again whenever
	// something moved.
	_, isTLS := s.socket.(*tls.Conn)
	written := 0
	for written < len(p) {
		chunk := p[written:]
		if isTLS {
			chunk = chunk[:min(len(chunk), maxTLSRecord)]
		}
		s.arm()
		n, err := s.conn.Write(chunk)
		written += n
		if err != nil && (isTLS || n == 0 || !errors.Is(err, os.ErrDeadlineExceeded) || s.isCut.Load()) {
			s.failed = true
			return written, err
		}
	}
	return written, nil
}

// arm sees to it that a write deadline lies at least write_timeout ahead. It
// sets it an eighth further than that and leaves it there, since setting one
// costs more than a small write's share.
func (s *Conn) arm() {
	now := time.Now()
	if s.deadline.Sub(now) >= s.timeout {
		return
	}
	s.deadline = now.Add(s.timeout + s.timeout/8)
	s.conn.SetWriteDeadline(s.deadline)
	if s.isCut.Load() {
		s.conn.SetWriteDeadline(past)
	}
}

func (s *Conn) HTTP3Server() *http3.Server { return nil }
func (s *Conn) HasServerTimeouts() bool    { return false }

func (s *Conn) CloseWrite(clean bool) bool {
	c, ok := s.socket.(interface{ CloseWrite() error })
	return ok && c.CloseWrite() == nil || !clean
}

func (s *Conn) Interrupt() { s.conn.SetReadDeadline(past) }

func (s *Conn) Resume() {
	if !s.isCut.Load() {
		s.conn.SetReadDeadline(time.Time{})
	}
}

func (s *Conn) Cut() {
	s.isCut.Store(true)
	s.conn.SetDeadline(past)
}

func (s *Conn) Close() error {
	if tlsConn, ok := s.socket.(*tls.Conn); ok && (s.failed || s.isCut.Load()) {
		// TLS would try for five seconds to say goodbye.
		tlsConn.NetConn().Close()
	}
	return s.conn.Close()
}
