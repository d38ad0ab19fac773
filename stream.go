package caddywebsocket

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/quic-go/quic-go/http3"
	"go.uber.org/zap"
)

// A stream carries the bytes of one socket: the connection on HTTP/1.1, the
// request body and the response on HTTP/2 and HTTP/3.
type stream interface {
	// wait returns when a Read has something to return, so that nobody has to
	// hold a buffer until then.
	wait() error
	io.Reader
	// Write writes all of p. It fails when nothing moves for write_timeout.
	io.Writer
	// hangUp tells the peer that nothing more comes, where that doesn't cut off
	// what the peer still sends. It reports whether that has to be read before
	// Close: to close a connection with unread bytes resets it, and the reset can
	// overtake what was sent last. With clean set the peer has said its last.
	hangUp(clean bool) (drain bool)
	// interrupt makes reads fail, one under way too, until resume.
	interrupt()
	resume()
	// cut makes the calls above fail for good, those under way too. Like interrupt
	// it may come from any goroutine at any time, even after Close.
	cut()
	// Close gives the stream up once everything written has been sent.
	Close() error
}

// past is a deadline that has expired.
var past = time.Unix(1, 0)

// A connStream is a stream over a connection of its own.
type connStream struct {
	conn net.Conn
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
func newConnStream(conn, socket net.Conn, early []byte, writeTimeout time.Duration) *connStream {
	return &connStream{
		conn: conn, socket: socket, waiter: newReadWaiter(socket), ready: early, timeout: writeTimeout,
	}
}

func (s *connStream) wait() error {
	if len(s.ready) > 0 {
		return nil
	}
	if s.waiter != nil {
		return s.waiter.wait()
	}
	// TLS decrypts a record at a time, so the rest of it is there when this is.
	n, err := s.conn.Read(s.first[:])
	s.ready = s.first[:n]
	if n > 0 {
		return nil
	}
	return err
}

func (s *connStream) Read(p []byte) (int, error) {
	if len(s.ready) > 0 {
		n := copy(p, s.ready)
		s.ready = s.ready[n:]
		return n, nil
	}
	return s.conn.Read(p)
}

// maxTLSRecord is the most that one TLS record carries (RFC 8446 §5.1).
const maxTLSRecord = 16 << 10

func (s *connStream) Write(p []byte) (int, error) {
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
func (s *connStream) arm() {
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

func (s *connStream) hangUp(clean bool) bool {
	c, ok := s.socket.(interface{ CloseWrite() error })
	return ok && c.CloseWrite() == nil || !clean
}

func (s *connStream) interrupt() { s.conn.SetReadDeadline(past) }

func (s *connStream) resume() {
	if !s.isCut.Load() {
		s.conn.SetReadDeadline(time.Time{})
	}
}

func (s *connStream) cut() {
	s.isCut.Store(true)
	s.conn.SetDeadline(past)
}

func (s *connStream) Close() error {
	if tlsConn, ok := s.socket.(*tls.Conn); ok && (s.failed || s.isCut.Load()) {
		// TLS would try for five seconds to say goodbye.
		tlsConn.NetConn().Close()
	}
	return s.conn.Close()
}

// A bodyStream is a stream over the body of an HTTP/2 or HTTP/3 request and the
// response to it.
type bodyStream struct {
	body  io.Reader
	ready []byte // the byte that wait waited for
	first [1]byte

	w       http.ResponseWriter // limits each call to timeout
	timeout time.Duration

	h3 *http3.Server // nil on HTTP/2
	// conn is the connection under an HTTP/2 stream. A client that doesn't read
	// from it at all holds up the very frame that would reset the stream.
	conn  net.Conn
	stuck *time.Timer // has conn cut; nil without one

	mu      sync.Mutex // guards the following
	writing bool
	since   time.Time // when the write began or something moved last
	// open is over when the handler is about to return: a deadline set after that
	// is a nil dereference in the HTTP server.
	open bool
}

// newBodyStream makes a stream of a request and its response. It lifts the idle
// timeouts of Caddy's server, since keepalive is there in their place.
func newBodyStream(w http.ResponseWriter, r *http.Request, body io.Reader, writeTimeout time.Duration, logger *zap.Logger) *bodyStream {
	reader, writer := caddyhttp.IdleTimeoutsFromContext(r.Context())
	if reader != nil {
		reader.Override(math.MaxInt64/2, 0) // it adds this to the current time
	}
	if writer != nil {
		writer.Override(writeTimeout, 0, maxTLSRecord)
	} else {
		w = &caddyhttp.IdleTimeoutWriter{
			ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w},
			Ctrl:                  http.NewResponseController(w),
			Deadline:              caddyhttp.IdleDeadline{Timeout: writeTimeout},
			MaxChunk:              maxTLSRecord,
			Logger:                logger,
			ClearBetweenWrites:    r.ProtoMajor == 2,
		}
	}
	h3, _ := r.Context().Value(http3.ServerContextKey).(*http3.Server)
	s := &bodyStream{body: body, w: w, timeout: writeTimeout, h3: h3, open: true}
	if conn, ok := r.Context().Value(connCtxKey).(net.Conn); ok {
		s.conn = conn
		s.stuck = time.AfterFunc(math.MaxInt64, s.cutConn)
		s.stuck.Stop()
	}
	return s
}

func (s *bodyStream) wait() error {
	if len(s.ready) > 0 {
		return nil
	}
	n, err := s.body.Read(s.first[:])
	s.ready = s.first[:n]
	if n > 0 {
		return nil
	}
	return err
}

func (s *bodyStream) Read(p []byte) (int, error) {
	if len(s.ready) > 0 {
		n := copy(p, s.ready)
		s.ready = nil
		return n, nil
	}
	n, err := s.body.Read(p)
	if err != nil && s.stalled() {
		err = &writeError{fmt.Errorf("%w: %w", os.ErrDeadlineExceeded, err)} // it has reset the stream
	}
	return n, err
}

func (s *bodyStream) Write(p []byte) (written int, err error) {
	defer s.setWriting(false)
	for written < len(p) && err == nil {
		s.setWriting(true)
		var n int
		n, err = s.w.Write(p[written:min(len(p), written+maxTLSRecord)])
		written += n
	}
	if err == nil {
		err = http.NewResponseController(s.w).Flush()
	}
	if err != nil && s.stalled() {
		err = fmt.Errorf("%w: %w", os.ErrDeadlineExceeded, err) // HTTP/2 has no word for it
	}
	return written, err
}

// stalled reports whether a write has waited for timeout.
func (s *bodyStream) stalled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writing && time.Since(s.since) >= s.timeout
}

// hangUp does nothing: a response ends when its handler returns, and the
// request ends with it.
func (s *bodyStream) hangUp(bool) bool { return false }

func (s *bodyStream) interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open {
		http.NewResponseController(s.w).SetReadDeadline(past)
	}
}

// resume does nothing: on HTTP/2 a read that timed out was the last.
func (s *bodyStream) resume() {}

func (s *bodyStream) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open {
		return
	}
	if s.writing && s.stuck != nil {
		s.stuck.Reset(resetWait)
	}
	http.NewResponseController(s.w).SetReadDeadline(past)
	// Caddy's writer is for one goroutine, the one under it for any.
	http.NewResponseController(innermost(s.w)).SetWriteDeadline(past)
}

// setWriting begins or ends the time that a write is given before its connection
// is cut.
func (s *bodyStream) setWriting(writing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing, s.since = writing, time.Now()
	switch {
	case s.stuck == nil:
	case writing:
		s.stuck.Reset(s.timeout + resetWait)
	default:
		s.stuck.Stop()
	}
}

// resetWait is how long a stream may take to be reset before its connection is
// cut.
const resetWait = time.Second

// cutConn cuts the connection of a stream that can't be reset.
func (s *bodyStream) cutConn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open {
		s.conn.SetDeadline(past)
	}
}

func (s *bodyStream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = false
	if s.stuck != nil {
		s.stuck.Stop()
	}
	return nil
}

// innermost is the response writer of the HTTP server itself.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = u.Unwrap()
	}
}
