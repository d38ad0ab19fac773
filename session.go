package caddywebsocket

import (
	"crypto/rand"
	"encoding/binary"
	"math"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// closeWait is how long a peer may take to answer a Close frame, and to close
// its end after the answer, before the stream is cut.
const closeWait = 3 * time.Second

// A cause says what ended a session.
type cause string

const (
	byClient           cause = "client"
	byServer           cause = "server"
	byKeepaliveTimeout cause = "keepalive_timeout"
	byWriteTimeout     cause = "write_timeout"
	byLifetime         cause = "lifetime"
	byReload           cause = "reload"
	byShutdown         cause = "shutdown"
	byUpstream         cause = "upstream"
	byError            cause = "error"
)

// An ending is how a session ends: why, and with which Close frame.
type ending struct {
	by     cause
	code   int // 1006 where there is no Close frame
	reason string
}

// A session is one open socket, from its handshake until its handler returns.
// A timer, which costs no goroutine while it waits, does what the handler
// can't while it reads: pings, and ends of all kinds.
type session struct {
	id      string
	handler *Handler
	stream  stream
	out     sender // to the client
	life    keepalive
	blind   atomic.Bool // not all frames are seen: no pings
	// tell, if there is one, has the application told, too, that the session ends.
	tell func(ending)
	// gone, if there is one, ends the application's part when the stream is cut.
	gone func()

	// Our pings carry nonce and the number of the ping, so that no late Pong is
	// taken for one to somebody else's.
	nonce    uint32
	pings    atomic.Uint32
	pingedAt atomic.Int64 // by the clock of life
	rtt      atomic.Int64 // the last round-trip time, in nanoseconds; 0: none yet

	mu    sync.Mutex // guards the following, and is not held while reading or writing
	timer *time.Timer
	// expiry is the ending planned for the time due.
	expiry ending
	due    time.Time // zero while none is planned
	// end is set once, by what ends the session first. From then on due is when
	// the stream is cut.
	end  ending
	over bool // the handler is about to return: the stream isn't there any more
}

// newSession makes a session of an accepted socket.
func newSession(h *Handler, stream stream) *session {
	s := &session{
		id:      rand.Text(),
		handler: h,
		stream:  stream,
		nonce:   mathrand.Uint32(),
		life: keepalive{
			interval: max(0, time.Duration(h.KeepaliveInterval)),
			timeout:  time.Duration(h.KeepaliveTimeout),
			start:    time.Now(),
		},
	}
	s.out = sender{out: stream, life: &s.life}
	return s
}

// start starts the session's timer.
func (s *session) start() {
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
	switch s.next() {
	case actNone:
	case actPing:
		s.pingedAt.Store(int64(s.life.now()))
		s.out.post(opPing, s.pingPayload(s.pings.Add(1)))
	case actClose:
		s.say(s.end)
	case actBury:
		s.say(s.end)
		s.stream.cut()
	case actCut:
		s.stream.cut()
		if s.gone != nil {
			s.gone()
		}
	}
}

// say has a Close frame sent to the client and to the application, if any.
func (s *session) say(e ending) {
	s.out.post(opClose, closePayload(e.code, e.reason))
	if s.tell != nil {
		s.tell(e)
	}
}

const pingPayloadLen = 8

func (s *session) pingPayload(n uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, s.nonce), n)
}

// pong reports whether a Pong with the given payload answers a Ping of ours, and
// takes the time if it answers the last one.
func (s *session) pong(payload []byte) bool {
	if len(payload) != pingPayloadLen || binary.BigEndian.Uint32(payload) != s.nonce {
		return false
	}
	n, last := binary.BigEndian.Uint32(payload[4:]), s.pings.Load()
	if n == last {
		s.rtt.Store(int64(s.life.now()) - s.pingedAt.Load())
	}
	return n > 0 && n <= last
}

// An action is what a session's timer has to do.
type action byte

const (
	actNone  action = iota
	actPing         // send a Ping
	actClose        // begin the closing handshake
	actBury         // send a Close to a peer that won't answer, and cut
	actCut          // the closing handshake took too long
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
		return actBury
	}
	s.setTimerLocked(wake)
	if ping {
		return actPing
	}
	return actNone
}

// cutAgain is how often a stream is cut until its handler has noticed: on HTTP/3
// a write that began in the same moment has put the deadline off again.
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
}

// logClosed logs how the session ended.
func (s *session) logClosed() {
	if c := s.handler.logger.Check(zapcore.DebugLevel, "socket closed"); c != nil {
		c.Write(zap.String("id", s.id), zap.String("closed_by", string(s.end.by)),
			zap.Int("close_code", s.end.code), zap.String("close_reason", s.end.reason),
			zap.Duration("rtt", time.Duration(s.rtt.Load())))
	}
}
