package caddywebsocket

import (
	"context"
	"crypto/rand"
	"math"
	mathrand "math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// closeWait is how long a peer may take to answer a Close frame, and to close
// its end after the answer, before the stream is cut.
const closeWait = 3 * time.Second

// A session is one socket, from its handshake, which may yet fail, until
// its handler returns.
// A timer, which costs no goroutine while it waits, does what the handler
// can't while it reads: pings, and ends of all kinds.
type session struct {
	id      string
	handler *Handler
	request context.Context // of the handshake
	about   about
	serial  int64  // its place in the order of all sessions
	stream  stream // there is one from when the handshake is accepted
	open    atomic.Bool
	out     sender // to the client
	life    keepalive
	blind   atomic.Bool // where a frame to the client ends isn't known: no pings
	// unsupervised says why not all frames are seen.
	unsupervised atomic.Pointer[string]
	// tell, if there is one, has the application told, too, that the session ends.
	tell func(ending)
	// gone, if there is one, ends the application's part when the stream is cut.
	gone func()
	// first is how the first of both closed in passthrough, if it did.
	first atomic.Pointer[ending]

	// Our pings carry nonce and the number of the ping, so that no late Pong is
	// taken for one to somebody else's.
	nonce    uint32
	pings    atomic.Uint32
	answered atomic.Uint32 // the last one that was
	pingedAt atomic.Int64  // by the clock of life
	rtt      atomic.Int64  // the last round-trip time, in nanoseconds; 0: none yet

	received, sent traffic // from and to the client

	mu    sync.Mutex // guards the following, and is not held while reading or writing
	timer *time.Timer
	// expiry is the ending planned for the time due.
	expiry ending
	due    time.Time // zero while none is planned
	// end is set once, by what ends the session first. From then on due is when the
	// client is waited for no more.
	end         ending
	interrupted bool // due has come, and reads were made to fail
	over        bool // the handler is about to return: the stream isn't there any more
	// What the handshake agreed on.
	subprotocol string
	compression bool
}

// newSession makes a session of a handshake that has passed all checks.
func newSession(h *Handler, r *http.Request) *session {
	return &session{
		id:      rand.Text(),
		handler: h,
		request: r.Context(),
		about:   aboutRequest(r),
		nonce:   mathrand.Uint32(),
		life: keepalive{
			interval: max(0, time.Duration(h.KeepaliveInterval)),
			timeout:  time.Duration(h.KeepaliveTimeout),
		},
	}
}

// begin begins the session when the handshake is accepted.
func (s *session) begin(stream stream) {
	s.stream = stream
	s.life.start = time.Now() // the next handler may have taken long to accept
	s.out.out, s.out.life, s.out.ping = stream, &s.life, s.nextPing
	s.open.Store(true)
	s.startTimer()
	sessions.add(s)
	metrics.handshook(s.handler.Mode, handshakeAccepted)
	s.reportOpened()
}

// begun reports whether the handshake has been accepted.
func (s *session) begun() bool { return s.open.Load() }

func (s *session) startTimer() {
	s.mu.Lock()
	defer s.mu.Unlock()
	wake := never
	if s.life.interval > 0 {
		wake = s.life.interval
	}
	s.timer = time.AfterFunc(wake, s.tick)
	if lifetime := time.Duration(s.handler.MaxLifetime); lifetime > 0 {
		s.planLocked(spread(lifetime),
			ending{byLifetime, websocket.CloseGoingAway, "end of the socket's lifetime"})
	}
}

// never is longer than any session lives.
const never time.Duration = math.MaxInt64

// spread draws a moment from the last tenth of d, so that sockets that were
// opened together don't come back together.
func spread(d time.Duration) time.Duration {
	return d - mathrand.N(d/10+1)
}

// tick does what is due.
func (s *session) tick() {
	defer s.contain(nil)
	switch s.next() {
	case actNone:
	case actPing:
		s.ping()
	case actClose:
		s.say(s.end)
	case actInterrupt:
		s.stream.interrupt()
		if s.gone != nil {
			s.gone()
		}
	case actCut:
		s.stream.cut()
	}
}

// broke ends the session for an error, which is how it ends unless somebody has
// closed before.
func (s *session) broke(err error) {
	e := s.endingOf(err)
	s.first.CompareAndSwap(nil, &e)
	s.ends(*s.first.Load())
}

// say has a Close frame sent to the client and to the application, if any.
func (s *session) say(e ending) {
	s.out.post(opClose, closePayload(e.code, e.reason))
	if s.tell != nil {
		s.tell(e)
	}
}

// An action is what a session's timer has to do.
type action byte

const (
	actNone      action = iota
	actPing             // send a Ping
	actClose            // begin the closing handshake
	actInterrupt        // it took too long: wait for the client no more
	actCut              // and if that is not enough, cut the stream
)

// next decides what is due and sets the timer for what comes after it. The
// timer is set before anything is written, so that a write that stalls is cut
// in its time.
func (s *session) next() action {
	s.mu.Lock()
	defer s.mu.Unlock()
	due := !s.due.IsZero() && !time.Now().Before(s.due)
	switch {
	case s.over:
		return actNone
	case s.end != ending{} && due:
		s.timer.Reset(cutAgain)
		if !s.interrupted {
			s.interrupted = true
			return actInterrupt
		}
		return actCut
	case s.end != ending{}:
		s.setTimerLocked(never)
		return actNone
	case due:
		s.endLocked(s.expiry)
		return actClose
	case s.life.interval == 0 || s.blind.Load():
		s.setTimerLocked(never)
		return actNone
	}
	ping, dead, wake := s.life.check()
	if dead {
		s.endLocked(ending{byKeepaliveTimeout, websocket.CloseGoingAway, "keepalive timeout"})
		s.due = time.Now().Add(lastWords) // a dead client won't answer
		s.timer.Reset(lastWords)
		return actClose
	}
	s.setTimerLocked(wake)
	if ping {
		return actPing
	}
	return actNone
}

// lastWords is how long a dead client's Close frame, and the application's, may
// take to be sent.
const lastWords = 100 * time.Millisecond

// cutAgain is how long a handler may take to notice an interruption, and how
// often its stream is cut then: on HTTP/3 a write that began in the same moment
// has put the deadline off again.
const cutAgain = 100 * time.Millisecond

// setTimerLocked has tick called after d, or when the planned ending is due.
func (s *session) setTimerLocked(d time.Duration) {
	if !s.due.IsZero() {
		d = min(d, time.Until(s.due))
	}
	s.timer.Reset(d)
}

// planLocked plans an ending that comes after d, unless an earlier one is
// planned.
func (s *session) planLocked(d time.Duration, e ending) {
	at := time.Now().Add(d)
	if s.over || s.end != (ending{}) || !s.due.IsZero() && s.due.Before(at) {
		return
	}
	s.expiry, s.due = e, at
	s.timer.Reset(0) // tick finds what comes first now
}

func (s *session) endLocked(e ending) {
	if s.end == (ending{}) {
		s.end = e
		s.due = time.Now().Add(closeWait)
		s.timer.Reset(closeWait)
	}
}

// plan has the session end after d, with a Close frame between two others,
// unless it ends earlier. It may be called from any goroutine.
func (s *session) plan(d time.Duration, e ending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.planLocked(d, e)
}

// ends notes how the session ends, unless that is settled already, and gives
// the peer closeWait for its part of it.
func (s *session) ends(e ending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked(e)
}

// finish is the last thing that a handler does with its session.
func (s *session) finish() {
	s.mu.Lock()
	s.over = true
	s.timer.Stop()
	s.mu.Unlock()
	if !s.out.mu.TryLock() {
		s.stream.cut() // the timer's goroutine is stuck in a write
		s.out.mu.Lock()
	}
	s.out.err = errSessionOver
	s.out.mu.Unlock()
	s.stream.Close()
	s.reportClosed()
	sessions.remove(s)
}
