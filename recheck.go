package caddywebsocket

import (
	"context"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/time/rate"

	"github.com/seed-21dbdb71/caddy-websocket/internal/limit"
)

const (
	// minRecheckInterval is how often a handshake is rechecked at most.
	minRecheckInterval = time.Second
	// maxRechecks is how many handshakes of a handler are rechecked at once.
	maxRechecks = 16
	// recheckTimeout is how long the answer to a recheck may take.
	recheckTimeout = 10 * time.Second
	// recheckLogInterval is how often a handler logs that rechecks fail.
	recheckLogInterval = time.Minute
)

// The results of rechecks.
const (
	recheckAllowed = "allowed"
	recheckDenied  = "denied"
	recheckFailed  = "failed"
)

// A rechecker rechecks the handshakes of a handler's open sockets.
type rechecker struct {
	handler  *Handler
	route    caddyhttp.Handler
	queue    *limit.Queue
	failures rate.Sometimes // that are logged
	hanging  atomic.Int64   // rechecks whose handler goes on although its time is over
}

// newRechecker returns the rechecker of a handler, nil if it needs none.
func newRechecker(h *Handler) *rechecker {
	if len(h.RecheckRoutes) == 0 {
		return nil
	}
	end := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })
	return &rechecker{
		handler:  h,
		route:    h.RecheckRoutes.Compile(end),
		queue:    limit.NewQueue(maxRechecks),
		failures: rate.Sometimes{Interval: recheckLogInterval},
	}
}

// A recheck is what a session needs for its handshake to be rechecked.
type recheck struct {
	*rechecker
	session   *session
	handshake *http.Request // as a plain request
	server    *caddyhttp.Server

	mu      sync.Mutex // guards the following
	stopped bool
	timer   *time.Timer // nil before the session begins
	dequeue func()      // takes the recheck out of the queue
}

// newRecheck returns the recheck of a session, nil if its handler has none.
func (q *rechecker) newRecheck(s *session, r *http.Request) *recheck {
	if q == nil {
		return nil
	}
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	return &recheck{rechecker: q, session: s, handshake: plainRequest(r), server: server}
}

// plainRequest returns a handshake as a GET request without the fields that make it one.
func plainRequest(r *http.Request) *http.Request {
	plain := r.Clone(context.Background())
	plain.Method, plain.Body, plain.ContentLength = http.MethodGet, http.NoBody, 0
	plain.Proto = fmt.Sprintf("HTTP/%d.%d", r.ProtoMajor, r.ProtoMinor)
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		plain.URL, plain.RequestURI = original.URL, original.RequestURI // which each recheck clones
	}
	hopByHop := strings.Split(strings.Join(r.Header["Connection"], ","), ",")
	for _, name := range append(hopByHop, "Connection", "Upgrade", "Content-Length") {
		plain.Header.Del(strings.TrimSpace(name))
	}
	for name := range plain.Header {
		if strings.HasPrefix(name, "Sec-Websocket-") || strings.HasPrefix(name, ":") {
			delete(plain.Header, name)
		}
	}
	return plain
}

// schedule has the handshake rechecked after the interval, give or take a tenth.
func (c *recheck) schedule() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return
	}
	interval := time.Duration(c.handler.RecheckInterval)
	c.timer = time.AfterFunc(interval-interval/10+mathrand.N(interval/5), c.enqueue)
}

// enqueue has the handshake rechecked as soon as possible, unless the session is about to
// end.
func (c *recheck) enqueue() {
	if phase, _ := c.session.current(); phase != phaseOpen {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopped {
		c.dequeue = c.queue.Add(c.run)
	}
}

// stop ends the rechecks. One that is under way changes nothing any more.
func (c *recheck) stop() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.dequeue != nil {
		c.dequeue()
	}
}

// run rechecks the handshake. It doesn't wait for a handler that goes on when its time is
// over, unless too many do, but until that returns there is no other recheck of this session.
func (c *recheck) run() {
	if c.hanging.Load() >= maxRechecks {
		c.judge(0, errHanging)
		c.schedule()
		return
	}
	ctx, cancel := context.WithTimeout(c.context(), recheckTimeout)
	defer cancel()
	defer context.AfterFunc(c.session.request, cancel)()
	answer := &statusWriter{ctx: ctx}
	done := make(chan error, 1)
	var late atomic.Bool
	go func() {
		defer c.schedule()
		done <- c.ask(ctx, answer)
		if late.Swap(true) {
			c.hanging.Add(-1)
		}
	}()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		c.hanging.Add(1)
		if late.Swap(true) { // it has returned by now
			c.hanging.Add(-1)
		}
	}
	if ctx.Err() != nil { // whatever the route makes of that
		err = errNoAnswer
	}
	if c.session.request.Err() == nil {
		c.judge(int(answer.status.Load()), err)
	}
}

// context returns what the context of a handshake has for a plain request. What is about the
// stream of the socket, its deadlines above all, isn't for that.
func (c *recheck) context() context.Context {
	of := c.session.request
	ctx := trace.ContextWithSpan(context.Background(), trace.SpanFromContext(of))
	for _, key := range []any{http.ServerContextKey, http.LocalAddrContextKey} {
		ctx = context.WithValue(ctx, key, of.Value(key))
	}
	return ctx
}

var errHanging = fmt.Errorf("%d checks don't end although their time is over", maxRechecks)

var errNoAnswer = fmt.Errorf("no answer within %s", recheckTimeout)

// errAborted is the error of a route that cuts the connection, as the directive abort does.
var errAborted = errors.New("aborted")

// ask runs the handshake through the route.
func (c *recheck) ask(ctx context.Context, answer *statusWriter) (err error) {
	defer func() {
		if panicked := recover(); panicked == http.ErrAbortHandler {
			err = caddyhttp.Error(http.StatusForbidden, errAborted)
		} else if panicked != nil {
			err = fmt.Errorf("panic: %v\n%s", panicked, debug.Stack())
		}
	}()
	r := caddyhttp.PrepareRequest(c.handshake.Clone(ctx), caddy.NewReplacer(), answer, c.server)
	return c.route.ServeHTTP(answer, r)
}

// judge decides on the session by the status that was answered, 0 for none, and the error of
// the route. A status that was sent counts, as it does for a client, whatever comes after it.
func (c *recheck) judge(status int, err error) {
	if e, ok := errors.AsType[caddyhttp.HandlerError](err); ok && status == 0 {
		status = e.StatusCode
	}
	switch {
	case status == 0 && err == nil, status >= 200 && status < 300:
		c.count(recheckAllowed)
	case status > 0 && status < 500:
		c.count(recheckDenied)
		c.session.plan(0, c.handler.ending(byRecheck))
		if l := c.handler.logger.Check(zapcore.DebugLevel, "socket not authorized any more"); l != nil {
			l.Write(zap.String("id", c.session.id), zap.Int("status", status), zap.Error(err))
		}
	default:
		c.count(recheckFailed)
		c.failures.Do(func() {
			c.handler.logger.Warn("recheck failed; sockets stay open until one succeeds",
				zap.String("id", c.session.id), zap.Int("status", status), zap.Error(err))
		})
	}
}

func (c *recheck) count(result string) {
	metrics.rechecks.WithLabelValues(c.session.account.labels(result)...).Inc()
}

// A statusWriter is a response writer that keeps the status only, if it comes in time.
type statusWriter struct {
	ctx    context.Context
	header http.Header
	status atomic.Int64 // 0: none yet
}

// Header implements http.ResponseWriter.
func (w *statusWriter) Header() http.Header {
	if w.header == nil {
		w.header = make(http.Header)
	}
	return w.header
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	if w.ctx.Err() == nil && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.status.CompareAndSwap(0, int64(status))
	}
}

// Write implements http.ResponseWriter.
func (w *statusWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return len(p), nil
}

// ReadFrom implements io.ReaderFrom.
func (w *statusWriter) ReadFrom(r io.Reader) (int64, error) {
	w.WriteHeader(http.StatusOK)
	return io.Copy(io.Discard, r)
}

// FlushError implements what http.ResponseController flushes.
func (w *statusWriter) FlushError() error {
	w.WriteHeader(http.StatusOK)
	return nil
}
