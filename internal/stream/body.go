package stream

import (
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/quic-go/quic-go/http3"
	"go.uber.org/zap"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// A bodyStream is a stream over the body of an HTTP/2 or HTTP/3 request and the
// response to it.
type Body struct {
	body  source
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
func NewBody(w http.ResponseWriter, r *http.Request, body io.Reader, writeTimeout time.Duration, logger *zap.Logger) *Body {
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
	s := &Body{body: source{r: body}, w: w, timeout: writeTimeout, h3: h3, open: true}
	if conn, ok := r.Context().Value(ConnCtxKey).(net.Conn); ok {
		s.conn = conn
		s.stuck = time.AfterFunc(math.MaxInt64, s.cutConn)
		s.stuck.Stop()
	}
	return s
}

func (s *Body) Wait() error {
	if len(s.ready) > 0 {
		return nil
	}
	n, err := s.body.Read(s.first[:])
	s.ready = s.first[:n]
	return err
}

func (s *Body) Read(p []byte) (int, error) {
	if len(s.ready) > 0 {
		n := copy(p, s.ready)
		s.ready = nil
		return n, nil
	}
	n, err := s.body.Read(p)
	if err != nil && s.stalled() {
		err = &ws.WriteError{Err: fmt.Errorf("%w: %w", os.ErrDeadlineExceeded, err)} // it has reset the stream
	}
	return n, err
}

func (s *Body) Write(p []byte) (written int, err error) {
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
func (s *Body) stalled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writing && time.Since(s.since) >= s.timeout
}

func (s *Body) HTTP3Server() *http3.Server { return s.h3 }
func (s *Body) HasServerTimeouts() bool    { return true }

// CloseWrite does nothing: a response ends when its handler returns, and the
// request ends with it.
func (s *Body) CloseWrite(bool) bool { return false }

func (s *Body) Interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open {
		http.NewResponseController(s.w).SetReadDeadline(past)
	}
}

// Resume does nothing: on HTTP/2 a read that timed out was the last.
func (s *Body) Resume() {}

func (s *Body) Cut() {
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
func (s *Body) setWriting(writing bool) {
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
func (s *Body) cutConn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open {
		s.conn.SetDeadline(past)
	}
}

func (s *Body) Close() error {
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
