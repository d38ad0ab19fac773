package caddywebsocket

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/gorilla/websocket"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// A tunnel is a socket that the next handler serves. Its bytes pass in both
// directions as they are, but for our own Pings, which go to the client between
// two of the application's frames, and the Pongs to them, which are taken out.
type tunnel struct {
	*session

	upMu    sync.Mutex // guards the following, while somebody reads from the client
	up      scanner    // from the client
	held    []byte     // what up held back
	got     int        // what the last read from the client took
	room    [2 * maxHeld]byte
	ready   []byte // what Read has yet to return, and readErr after that
	readErr error
	refused bool // what came may not pass, so nothing does any more
	resumed bool // Read went on, once, after tell interrupted it within a frame

	// toApp writes to the application where it has the client's bytes written to
	// it; where it reads them itself, told says what to let it read.
	toApp   sender
	writing atomic.Bool
	told    atomic.Pointer[ending]

	downMu   sync.Mutex // guards the following
	down     scanner    // from the application
	downHeld []byte
	head     []byte // of a response that the application writes itself; nil once frames follow
	content  bool   // the answer has a type of content, as one that opens a socket has not

	copying   atomic.Bool   // ReadFrom is under way
	lost      atomic.Bool   // a write to the application failed
	abandoned chan struct{} // closed when the application is done with the connection
	abandon   func()
	cancel    func() // of what the application has of the request: reverse_proxy lets its upstream go
}

// servePassthrough has the next handler serve a socket, unless it is refused.
func (h *Handler) servePassthrough(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	s, err := h.admit(w.Header(), r)
	if err != nil {
		return err
	}
	defer h.dismiss(s)
	return s.passthrough(w, r, next)
}

// passthrough lets the next handler accept a socket and supervises it.
func (s *session) passthrough(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	h := s.handler
	if h.Compression == "off" {
		withoutDeflate(r.Header)
	}
	t := &tunnel{session: s, abandoned: make(chan struct{})}
	t.abandon = sync.OnceFunc(func() { close(t.abandoned) })
	t.up = scanner{client: true, limit: h.MaxMessageSize, strict: h.MaxMessageSize > 0, ours: t.pong}
	t.down = scanner{limit: h.MaxMessageSize}
	t.toApp.masked = true
	t.tell, t.gone = t.tellApp, t.letGo
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	t.cancel = cancel
	r = r.WithContext(ctx)
	if r.ProtoMajor == 1 {
		w = &hijackWriter{&caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, t, r, false}
	} else {
		r.Body = &tunnelBody{r.Body, t}
		w = &tunnelWriter{&caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, t, r, false}
	}
	defer t.close()
	err := next.ServeHTTP(w, r)
	if !t.begun() {
		return err
	}
	if r.ProtoMajor == 1 {
		<-t.abandoned // a handler may return and go on with the connection
	}
	if c := h.logger.Check(zapcore.DebugLevel, "next handler is done"); c != nil {
		c.Write(zap.String("id", t.id), zap.Error(err))
	}
	return nil
}

// letGo ends the application's part.
func (t *tunnel) letGo() {
	t.cancel()
	t.abandon()
}

// tellApp has the application told that the session ends.
func (t *tunnel) tellApp(e ending) {
	t.told.Store(&e)
	if t.writing.Load() {
		t.toApp.post(opClose, closePayload(e.code, e.reason))
	} else {
		t.stream.interrupt()
	}
}

// closed notes a Close frame that has passed, or the end of its sender, and
// ends the session when both sides have closed.
func (t *tunnel) closed(e ending) {
	if !t.first.CompareAndSwap(nil, &e) {
		t.ends(*t.first.Load())
	}
}

var (
	upstreamLost = ending{byUpstream, websocket.CloseInternalServerErr, "upstream connection lost"}
	clientGone   = ending{byClient, websocket.CloseAbnormalClosure, "request canceled"}
)

// proxyClosed is the ending when the next handler closed the connection.
func (t *tunnel) proxyClosed() ending {
	if t.lost.Load() {
		return upstreamLost
	}
	if t.handler.ctx.Err() != nil {
		return ending{byReload, websocket.CloseGoingAway, "configuration reloaded"}
	}
	return ending{byUpstream, websocket.CloseGoingAway, "closed by the proxy"}
}

// close ends the session after the application is done with it.
func (t *tunnel) close() {
	if !t.begun() {
		metrics.handshook(t.handler.Mode, handshakeDeclined)
		return
	}
	switch first := t.first.Load(); {
	case first != nil:
		t.ends(*first)
	case t.request.Err() != nil:
		t.ends(clientGone) // on HTTP/2 and HTTP/3, before a read has shown it
	default:
		t.ends(upstreamLost)
	}
	t.downMu.Lock()
	sent := t.sayClose()
	t.downMu.Unlock()
	// A copy loop of the application's may still be reading.
	t.stream.interrupt()
	t.upMu.Lock()
	defer t.upMu.Unlock()
	t.stream.resume()
	buf := blocks.get()
	defer blocks.put(buf)
	t.up.limit = 0
	for err := error(nil); sent && err == nil && !t.up.closed && t.up.broken == nil; {
		_, err = t.pull(buf.p)
	}
	// Of a client that is lost or stalled nothing more is of interest.
	if t.end.code != websocket.CloseAbnormalClosure && t.stream.hangUp(t.up.closed) {
		for err := error(nil); err == nil; {
			_, err = t.pull(buf.p)
		}
	}
	t.finish()
}

// sayClose sends the client the Close frame of the session's end, unless one was
// sent, and reports whether there was one.
func (t *tunnel) sayClose() bool {
	if t.head != nil || t.down.open() || t.end.code == websocket.CloseAbnormalClosure {
		return false
	}
	if len(t.downHeld) > 0 {
		_ = t.out.pass(t.downHeld, true, false) // it was no frame after all
		return false
	}
	if t.content && t.told.Load() == nil && !t.up.seen {
		return false // nobody has shown yet that this is a socket
	}
	err := t.out.control(opClose, closePayload(t.end.code, t.end.reason))
	return err == nil || errors.Is(err, errCloseSent)
}

// refuse ends the session for what may not pass.
func (t *tunnel) refuse(err *closeError) {
	t.ends(ending{byServer, err.code, err.reason})
	t.say(t.end)
}

// checkBroken notes why the frames of a direction can't be followed any more.
func (t *tunnel) checkBroken(s *scanner, from string) {
	if s.broken == nil {
		return
	}
	reason := fmt.Sprintf("frames from the %s can't be followed: %v", from, s.broken)
	if s == &t.down {
		t.blind.Store(true)
	}
	if !t.unsupervised.CompareAndSwap(nil, &reason) {
		return
	}
	if c := t.handler.logger.Check(zapcore.DebugLevel, "socket not supervised any more"); c != nil {
		c.Write(zap.String("id", t.id), zap.String("reason", reason))
	}
}
