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

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// A Body is a Stream over the body of an HTTP/2 or HTTP/3 request and the response to
// it.
type Body struct {
	body  source
	ready []byte         // what Wait has read and Read has yet to return
	small [waitSize]byte // where Wait reads to
	large *ws.Buffer     // or there; nil while it is not needed
	full  bool           // Wait has last read more than small has room for

	w       http.ResponseWriter
	ctrl    *http.ResponseController // of w
	timeout time.Duration

	h3 *http3.Server // nil on HTTP/2
	// conn is the connection that carries an HTTP/2 stream. If the client doesn't read
	// from it at all, the frame that resets the stream can't be sent either.
	conn net.Conn

	mu           sync.Mutex // guards the fields below
	writing      bool
	lastProgress time.Time   // when the write began or last made progress
	watch        *time.Timer // calls checkProgress
	watching     bool        // watch is set
	expired      bool        // a write has made no progress for timeout
	failing      bool        // writes are made to fail
	// serving is set until the handler is about to return. Setting a deadline after
	// that is a nil dereference in the HTTP server.
	serving bool
}

// waitSize is how many bytes Wait reads of a message that is probably short, where it can't
// wait without reading. Each read of an HTTP/2 body costs a message to the goroutine of the
// connection, so that of a short message should be the only one. But every idle socket has
// room for so many, and a Body after a longer message, until it answers a Ping, for 4 KiB.
const waitSize = 256

// AllowLongReads has a read from the request's body take as long as it likes once NewBody
// has lifted Caddy's idle timeout. It must be called before anybody reads.
func AllowLongReads(r *http.Request) {
	if reader, _ := caddyhttp.IdleTimeoutsFromContext(r.Context()); reader != nil && reader.Ctrl != nil {
		reader.Ctrl = withoutFarDeadlines(reader.Ctrl)
	}
}

// forever is far away, for a deadline.
const forever = time.Duration(math.MaxInt64 / 2)

// A nearDeadlines passes on deadlines but those that are far away.
//
// Caddy sets a deadline before each read and write, which can't be turned off, only put
// off. On HTTP/2 each of them is a message to the goroutine that serves the connection, and
// a timer. One that is set while the client resets the stream is never stopped: until it
// fires, it would hold the connection and the config in memory.
type nearDeadlines struct {
	http.ResponseWriter // nil: only the deadlines are set
	ctrl                *http.ResponseController
	far                 time.Time
	none                bool // no deadline is set
}

func withoutFarDeadlines(ctrl *http.ResponseController) *http.ResponseController {
	return http.NewResponseController(&nearDeadlines{ctrl: ctrl, far: time.Now().Add(forever / 2)})
}

// SetReadDeadline is called with a lock of Caddy's reader held.
func (d *nearDeadlines) SetReadDeadline(at time.Time) error {
	return d.set(at, d.ctrl.SetReadDeadline)
}

// SetWriteDeadline is called by whoever writes.
func (d *nearDeadlines) SetWriteDeadline(at time.Time) error {
	return d.set(at, d.ctrl.SetWriteDeadline)
}

func (d *nearDeadlines) set(at time.Time, set func(time.Time) error) error {
	far := at.IsZero() || at.After(d.far)
	if far && d.none {
		return nil
	}
	if d.none = far; far {
		at = time.Time{}
	}
	return set(at)
}

// NewBody returns a Stream over a request's body and the response to it, which is
// written to w. It lifts the idle timeouts of Caddy's server, since keepalive takes
// their place. A write fails when it has made no progress, of up to 16 KiB, for
// writeTimeout.
func NewBody(w http.ResponseWriter, r *http.Request, body io.Reader, writeTimeout time.Duration) *Body {
	reader, writer := caddyhttp.IdleTimeoutsFromContext(r.Context())
	if reader != nil {
		reader.Override(forever, 0) // it adds this to the current time
	}
	if writer != nil {
		if writer.Ctrl != nil {
			writer.Ctrl = withoutFarDeadlines(writer.Ctrl)
		}
		writer.Override(forever, 0, maxTLSRecord)
	}
	h3, _ := r.Context().Value(http3.ServerContextKey).(*http3.Server)
	conn, _ := r.Context().Value(ConnCtxKey).(net.Conn)
	b := &Body{
		body: source{r: body}, w: w, ctrl: http.NewResponseController(w), timeout: writeTimeout, h3: h3, conn: conn, serving: true,
	}
	b.watch = time.AfterFunc(math.MaxInt64, b.checkProgress)
	b.watch.Stop()
	return b
}

// Wait implements [Stream]. Where much has come at once, it waits with a larger buffer, so
// that replies to what comes together leave together.
func (b *Body) Wait() error {
	if len(b.ready) > 0 {
		return nil
	}
	room := b.small[:]
	if b.full {
		b.large = ws.SmallBlocks.Get()
		room = b.large.P
	}
	n, err := b.read(room)
	b.full = n >= len(b.small)
	if b.ready = room[:n]; n == 0 {
		b.release()
	}
	return err
}

// release gives the larger buffer back.
func (b *Body) release() {
	if b.large != nil {
		ws.SmallBlocks.Put(b.large)
		b.large = nil
	}
}

// Read implements [Stream]. It returns a [*ws.WriteError] if a write has timed out, which
// resets the stream.
func (b *Body) Read(p []byte) (int, error) {
	if len(b.ready) > 0 {
		n := copy(p, b.ready)
		if b.ready = b.ready[n:]; len(b.ready) == 0 {
			b.release()
		}
		return n, nil
	}
	return b.read(p)
}

// read reads from the body.
func (b *Body) read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if err != nil && b.hasExpired() {
		err = &ws.WriteError{Err: fmt.Errorf("%w: %w", os.ErrDeadlineExceeded, err)}
	}
	return n, err
}

// Write implements [Stream]. The first write, be it of nothing, sends the header of the
// response.
func (b *Body) Write(p []byte) (written int, err error) {
	defer b.endWrite()
	for written < len(p) && err == nil {
		b.noteProgress()
		var n int
		n, err = b.w.Write(p[written:min(len(p), written+maxTLSRecord)])
		written += n
	}
	if err == nil {
		b.noteProgress()
		err = b.ctrl.Flush()
	}
	if err != nil && b.hasExpired() {
		err = fmt.Errorf("%w: %w", os.ErrDeadlineExceeded, err) // HTTP/2 reports a timeout as a reset stream
	}
	return written, err
}

// noteProgress notes that a write begins or makes progress.
func (b *Body) noteProgress() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writing, b.lastProgress = true, time.Now()
	if !b.watching && b.serving {
		b.watching = true
		b.watch.Reset(b.timeout)
	}
}

func (b *Body) endWrite() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writing = false
}

// checkProgress ends a write that makes no progress. It is called when one could have made
// none for the timeout; setting a deadline for each write would cost more than the write.
func (b *Body) checkProgress() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.watching = b.writing && b.serving; !b.watching {
		return
	}
	switch left := b.timeout - time.Since(b.lastProgress); {
	case b.failing && b.conn != nil:
		b.conn.SetDeadline(past) // the reset can't be sent either
	case b.failing:
		b.failWritesLocked() // the write may have set a deadline of the server's in between
		b.watch.Reset(resetWait)
	case left > 0:
		b.watch.Reset(left)
	default:
		b.expired = true
		b.failWritesLocked()
	}
}

// failWritesLocked makes writes fail, which resets an HTTP/2 stream. It may be called again
// and again.
func (b *Body) failWritesLocked() {
	// Caddy's writer is for one goroutine, that of the HTTP server for any.
	http.NewResponseController(innermost(b.w)).SetWriteDeadline(past)
	if !b.failing {
		b.failing, b.watching = true, true
		b.watch.Reset(resetWait)
	}
}

// resetWait is how long the reset of a stream may take before its connection is cut.
const resetWait = time.Second

// hasExpired reports whether a write has made no progress for the timeout.
func (b *Body) hasExpired() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.expired
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
		b.ctrl.SetReadDeadline(past)
	}
}

// Resume implements [Stream]. It does nothing: on HTTP/2 no read succeeds after one that
// timed out.
func (b *Body) Resume() {}

// Cut implements [Stream].
func (b *Body) Cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.serving {
		b.ctrl.SetReadDeadline(past)
		b.failWritesLocked()
	}
}

// Close implements [Stream]. The HTTP server ends the stream when the handler returns.
func (b *Body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.serving = false
	b.watch.Stop()
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
