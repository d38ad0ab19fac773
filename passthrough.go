package caddywebsocket

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/seed-21dbdb71/caddy-websocket/internal/stream"
	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// A tunnel is a socket that the next handler serves. Its bytes pass in both
// directions as they are, but for our own Pings, which go to the client between
// two of the application's frames, and the Pongs to them, which are taken out.
type tunnel struct {
	*session

	upMu    sync.Mutex // guards the following, while somebody reads from the client
	up      ws.Scanner // from the client
	upHeld  []byte     // what up held back
	got     int        // what the last read from the client took
	room    [2 * ws.MaxHeld]byte
	ready   []byte // what Read has yet to return, and readErr after that
	readErr error
	refused bool // what came may not pass, so nothing does any more
	cutOff  bool // that was in the middle of a frame
	resumed bool // Read went on, once, after sendAppClose interrupted it within a frame
	// awaited is closed when Read need not wait for the client any more; nil while it
	// doesn't.
	awaited chan struct{}

	// toApp writes to the application where it has the client's bytes written to
	// it, which appWritten reports. Where it reads them itself, appClose is the Close
	// frame to let it read.
	toApp      ws.Writer
	appWritten atomic.Bool
	appClose   atomic.Pointer[ending] // nil until the application is to be sent one

	appKeepalive heartbeat
	pingDue      atomic.Bool   // Read is to return a Ping
	wake         chan struct{} // has Read look at pingDue; nil without keepalive

	downMu   sync.Mutex // guards the following
	down     ws.Scanner // from the application
	downHeld []byte     // what down held back
	tooBig   bool       // what came may not pass, so nothing does any more
	head     []byte     // of a response that the application writes itself; nil once frames follow
	content  bool       // the answer has a type of content, as one that opens a socket has not

	copying atomic.Bool   // ReadFrom is under way
	lost    atomic.Bool   // a write to the application failed
	appDone chan struct{} // closed when the application is done with the connection
	setDone func()
	cancel  func() // of what the application has of the request: reverse_proxy lets its upstream go
}

// passthrough lets the next handler accept a socket and supervises it.
func (s *session) passthrough(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	h := s.handler
	if h.Compression == "off" {
		ws.WithoutDeflate(r.Header)
	}
	t := &tunnel{session: s, appDone: make(chan struct{})}
	t.appKeepalive.nonce = newNonce()
	t.setDone = sync.OnceFunc(func() { close(t.appDone) })
	t.up = ws.Scanner{Client: true, Limit: h.MaxMessageSize, Strict: h.limitsClients(), Ours: t.pong}
	t.down = ws.Scanner{Limit: max(0, h.MaxMessageSizeFromUpstream), Ours: t.appPong}
	s.app = t
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	t.cancel = cancel
	// Another handler of ours behind this one must not look past it.
	passed := r.WithContext(context.WithValue(ctx, stream.ConnCtxKey, nil))
	if r.ProtoMajor == 1 {
		w = &hijackWriter{&caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, t, r, false}
	} else {
		stream.AllowLongReads(r)
		passed.Body = &tunnelBody{r.Body, t}
		w = &tunnelWriter{&caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, t, r, false}
	}
	defer t.close()
	err := next.ServeHTTP(w, passed)
	if !t.begun() {
		return err
	}
	if r.ProtoMajor == 1 {
		<-t.appDone // a handler may return and go on with the connection
	}
	if c := h.logger.Check(zapcore.DebugLevel, "next handler is done"); c != nil {
		c.Write(zap.String("id", t.id), zap.Error(err))
	}
	return nil
}

// detachApp ends the application's part.
func (t *tunnel) detachApp() {
	t.cancel()
	t.setDone()
}

// sendAppClose sends the application our Close frame.
func (t *tunnel) sendAppClose(e ending) {
	t.appClose.Store(&e)
	if t.appWritten.Load() {
		t.toApp.Post(ws.OpClose, e.appPayload())
	} else {
		t.stream.Interrupt()
	}
}

var clientGone = ending{by: byClient, code: closeNone, reason: "request canceled"}

// proxyClosed is the ending when the next handler closed the connection.
func (t *tunnel) proxyClosed() ending {
	end := t.upstreamGone()
	if end.by == byUpstream && !t.lost.Load() && t.handler.ctx.Err() != nil {
		return t.handler.ending(byReload)
	}
	return end
}

// upstreamGone is the ending when the application is done with the session, or the next
// handler is because the client has gone, which a read may not have shown yet.
func (t *tunnel) upstreamGone() ending {
	if t.request.Err() != nil {
		return clientGone
	}
	return t.handler.ending(byUpstream)
}

// close ends the session after the application is done with it.
func (t *tunnel) close() {
	if !t.begun() {
		metrics.countHandshake(t.scopeOf(t.dialed()), handshakeDeclined)
		return
	}
	end, _ := t.end(t.upstreamGone())
	t.downMu.Lock()
	sent := t.finishClose(end)
	t.downMu.Unlock()
	// A copy loop of the application's may still be reading.
	t.stream.Interrupt()
	t.upMu.Lock()
	defer t.upMu.Unlock()
	t.stopWaiting()
	t.stream.Resume()
	buf := ws.Blocks.Get()
	defer ws.Blocks.Put(buf)
	t.up.Limit = 0
	for err := error(nil); sent && err == nil && !t.up.Closed && t.up.Broken == nil; {
		_, err = t.pull(buf.P)
	}
	// Of a client that is lost or stalled nothing more is of interest.
	if !end.withoutClose() && t.stream.CloseWrite(t.up.Closed) {
		for err := error(nil); err == nil; {
			_, err = t.pull(buf.P)
		}
	}
}

// finishClose sends the client the Close frame of the session's end, unless one was
// sent, and reports whether there was one. What is held of a frame that the
// application has begun and never ends is dropped: nothing of that frame has passed,
// so the Close frame can take its place.
func (t *tunnel) finishClose(end ending) bool {
	if t.head != nil || !t.tooBig && t.down.WithinFrame() {
		return false
	}
	if t.content && t.appClose.Load() == nil && !t.up.Seen { // nobody has shown yet that this is a socket
		if len(t.downHeld) > 0 {
			_ = t.out.Pass(t.downHeld, true, false)
			t.downHeld = nil
		}
		return false
	}
	if end.withoutClose() {
		return false
	}
	err := t.out.Control(ws.OpClose, end.payload())
	return err == nil || errors.Is(err, ws.ErrCloseSent)
}

// refuse ends the session for what may not pass.
func (t *tunnel) refuse(err *ws.CloseError) {
	t.closeWith(ending{by: byServer, code: err.Code, reason: err.Reason})
}

// checkBroken notes why the frames of a direction can't be followed any more.
func (t *tunnel) checkBroken(s *ws.Scanner, from string) {
	if s.Broken == nil {
		return
	}
	reason := fmt.Sprintf("frames from the %s can't be followed: %v", from, s.Broken)
	if s == &t.down {
		t.keepalive.off.Store(true)
	}
	t.appKeepalive.off.Store(true)
	if !t.unsupervised.CompareAndSwap(nil, &reason) {
		return
	}
	if c := t.handler.logger.Check(zapcore.DebugLevel, "socket not supervised any more"); c != nil {
		c.Write(zap.String("id", t.id), zap.String("reason", reason))
	}
}
