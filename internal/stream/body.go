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

// A Body is a Stream over the body of an HTTP/2 or HTTP/3 request and the response to
// it.
type Body struct {
	body     source
	ready    []byte // the byte that Wait has read
	waitByte [1]byte

	w       http.ResponseWriter // limits each call to timeout
	timeout time.Duration

	h3 *http3.Server // nil on HTTP/2
	// conn is the connection that carries an HTTP/2 stream. If the client doesn't read
	// from it at all, the frame that resets the stream can't be sent either.
	conn     net.Conn
	cutTimer *time.Timer // cuts conn; nil if conn is

	mu           sync.Mutex // guards the fields below
	writing      bool
	lastProgress time.Time // when the write began or last made progress
	// serving is set until the handler is about to return. Setting a deadline after
	// that is a nil dereference in the HTTP server.
	serving bool
}

// AllowLongReads has a read from the request's body take as long as it likes once NewBody
// has lifted Caddy's idle timeout. It must be called before anybody reads.
//
// Caddy's reader sets a deadline before each read, which can't be turned off, only put off.
// On HTTP/2 each is a timer, and one that is set while the client resets the stream is
// never stopped: until it fires, it would hold the connection and the config in memory. So
// deadlines that are far away are not set at all.
func AllowLongReads(r *http.Request) {
	if reader, _ := caddyhttp.IdleTimeoutsFromContext(r.Context()); reader != nil && reader.Ctrl != nil {
		reader.Ctrl = http.NewResponseController(&nearDeadlines{ctrl: reader.Ctrl})
	}
}

// forever is far away, for a deadline.
const forever = time.Duration(math.MaxInt64 / 2)

// A nearDeadlines passes on read deadlines but those that are far away.
type nearDeadlines struct {
	http.ResponseWriter // nil: only SetReadDeadline is called
	ctrl                *http.ResponseController
	none                bool // no deadline is set
}

// SetReadDeadline is called with a lock of Caddy's reader held.
func (d *nearDeadlines) SetReadDeadline(at time.Time) error {
	far := at.IsZero() || time.Until(at) > forever/2
	if far && d.none {
		return nil
	}
	if d.none = far; far {
		at = time.Time{}
	}
	return d.ctrl.SetReadDeadline(at)
}

// NewBody returns a Stream over a request's body and the response to it, which is
// written to w. It lifts the idle timeouts of Caddy's server, since keepalive takes
// their place. A write fails when it has made no progress, of up to 16 KiB, for
// writeTimeout.
func NewBody(w http.ResponseWriter, r *http.Request, body io.Reader, writeTimeout time.Duration, logger *zap.Logger) *Body {
	reader, writer := caddyhttp.IdleTimeoutsFromContext(r.Context())
	if reader != nil {
		reader.Override(forever, 0) // it adds this to the current time
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
	b := &Body{body: source{r: body}, w: w, timeout: writeTimeout, h3: h3, serving: true}
	if conn, ok := r.Context().Value(ConnCtxKey).(net.Conn); ok {
		b.conn = conn
		b.cutTimer = time.AfterFunc(math.MaxInt64, b.cutConn)
		b.cutTimer.Stop()
	}
	return b
}

// Wait implements [Stream].
func (b *Body) Wait() error {
	if len(b.ready) > 0 {
		return nil
	}
	n, err := b.body.Read(b.waitByte[:])
	b.ready = b.waitByte[:n]
	return err
}

// Read implements [Stream]. It returns a [*ws.WriteError] if a write has timed out, which
// resets the stream.
func (b *Body) Read(p []byte) (int, error) {
	if len(b.ready) > 0 {
		n := copy(p, b.ready)
		b.ready = nil
		return n, nil
	}
	n, err := b.body.Read(p)
	if err != nil && b.stalled() {
		err = &ws.WriteError{Err: fmt.Errorf("%w: %w", os.ErrDeadlineExceeded, err)}
	}
	return n, err
}

// Write implements [Stream].
func (b *Body) Write(p []byte) (written int, err error) {
	defer b.setWriting(false)
	for written < len(p) && err == nil {
		b.setWriting(true)
		var n int
		n, err = b.w.Write(p[written:min(len(p), written+maxTLSRecord)])
		written += n
	}
	if err == nil {
		err = http.NewResponseController(b.w).Flush()
	}
	if err != nil && b.stalled() {
		err = fmt.Errorf("%w: %w", os.ErrDeadlineExceeded, err) // HTTP/2 reports a timeout as a reset stream
	}
	return written, err
}

// stalled reports whether a write has made no progress for the timeout.
func (b *Body) stalled() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.writing && time.Since(b.lastProgress) >= b.timeout
}

// Carrier returns the server on HTTP/3 and the connection on HTTP/2.
func (b *Body) Carrier() io.Closer {
	switch {
	case b.h3 != nil:
		return b.h3
	case b.conn != nil:
		return b.conn
	}
	return nil
}

// HasServerTimeouts implements [Stream].
func (b *Body) HasServerTimeouts() bool { return true }

// CloseWrite implements [Stream]. It does nothing: a response ends when its handler
// returns, and the request ends with it.
func (b *Body) CloseWrite(bool) bool { return false }

// Interrupt implements [Stream].
func (b *Body) Interrupt() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.serving {
		http.NewResponseController(b.w).SetReadDeadline(past)
	}
}

// Resume implements [Stream]. It does nothing: on HTTP/2 no read succeeds after one that
// timed out.
func (b *Body) Resume() {}

// Cut implements [Stream].
func (b *Body) Cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.serving {
		return
	}
	if b.writing && b.cutTimer != nil {
		b.cutTimer.Reset(resetWait)
	}
	http.NewResponseController(b.w).SetReadDeadline(past)
	// Caddy's writer is for one goroutine, that of the HTTP server for any.
	http.NewResponseController(innermost(b.w)).SetWriteDeadline(past)
}

// setWriting records that a write begins, makes progress or ends, and starts or stops
// the timer that cuts its connection.
func (b *Body) setWriting(writing bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writing, b.lastProgress = writing, time.Now()
	switch {
	case b.cutTimer == nil:
	case writing:
		b.cutTimer.Reset(b.timeout + resetWait)
	default:
		b.cutTimer.Stop()
	}
}

// resetWait is how long the reset of a stream may take before its connection is cut.
const resetWait = time.Second

// cutConn cuts the connection of a stream that can't be reset.
func (b *Body) cutConn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.serving {
		b.conn.SetDeadline(past)
	}
}

// Close implements [Stream]. The HTTP server ends the stream when the handler returns.
func (b *Body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.serving = false
	if b.cutTimer != nil {
		b.cutTimer.Stop()
	}
	return nil
}

// innermost returns the response writer of the HTTP server itself.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = u.Unwrap()
	}
}
