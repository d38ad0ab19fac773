package caddywebsocket

import (
	mathrand "math/rand/v2"
	"sync"
	"time"
)

// A phase is how far a session has come. It only ever moves on.
type phase byte

const (
	phaseHandshake   phase = iota // the handshake has not been accepted yet
	phaseOpen                     // frames pass
	phaseDecided                  // it is time for our Close frames, which the timer sends
	phaseAnnounced                // our Close frame, if any, is on its way to the client
	phaseSent                     // it has left; the application's is next
	phaseClosing                  // the peers have until the deadline to close
	phaseInterrupted              // they had their time, and reads fail
	phaseOver                     // the handler is about to return: there is no stream any more
)

const (
	// closeWait is how long the peers may take to close after the first Close
	// frame, before the stream is cut.
	closeWait = 3 * time.Second
	// announceWait is how long our Close frame to the application waits for the one
	// to the client. Some applications cut their connection at once, within the
	// frame that they are sending, and then no Close frame fits in for the client.
	announceWait = time.Second
	// cutWait is how long the Close frame to the application may take to be sent when
	// the client is not waited for: it is dead, or is sent none.
	cutWait = 100 * time.Millisecond
	// cutInterval is how long a handler may take to notice an interruption, and how
	// often its stream is cut then: on HTTP/3 a write that began in the same moment
	// may have put the server's own deadline in the place of ours.
	cutInterval = 100 * time.Millisecond
	// never is longer than any session lives.
	never time.Duration = 1<<63 - 1
)

// A lifecycle is the state machine of a session: how far it has come, what ends
// it, and when. Its timer, which costs no goroutine while it waits, does what the
// handler can't while it reads.
type lifecycle struct {
	mu    sync.Mutex // guards the following
	phase phase
	timer *time.Timer
	wakes time.Time // when timer does
	tick  func()    // what it calls
	// ending is how the session is planned to end; from phaseDecided on, how it ends.
	ending ending
	// expires is when the session ends in the way of expired, since its login does. It is
	// kept apart from other plans because it can be moved. Zero: never.
	expires time.Time
	expired ending
	// deadline is when the planned ending is due; from phaseAnnounced on, when the
	// phase is over. Zero: there is none.
	deadline time.Time
	wait     time.Duration // how long phaseClosing lasts
	// decided is closed once it is decided how the session ends; nil if nobody waits for that.
	decided chan struct{}
	// closeSent is set once our Close frame to the client has been written.
	closeSent bool
}

// An action is what a session's timer has to do.
type action byte

const (
	actNone      action = iota
	actPing             // send the client a Ping
	actPingApp          // send the application one
	actClose            // send the client our Close frame
	actCloseApp         // send the application one
	actInterrupt        // wait for the peers no longer
	actCut              // and if that is not enough, cut the stream
)

// begin opens the session. tick is called after first, and whenever something is
// due.
func (l *lifecycle) begin(tick func(), first time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.phase = phaseOpen
	l.wait = closeWait
	l.tick = tick
	first = min(first, l.untilExpiredLocked())
	l.wakes = time.Now().Add(first)
	l.timer = time.AfterFunc(first, tick)
}

// wakeLocked has tick called after d. If that is now, it needs no timer: Go may look through
// all timers when one has been moved to the front, and the sockets that are closed
// together may be many.
func (l *lifecycle) wakeLocked(d time.Duration) {
	l.wakes = time.Now().Add(d)
	if d <= 0 {
		go l.tick()
		return
	}
	l.timer.Reset(d)
}

// wakeByLocked has tick called at a time, or earlier.
func (l *lifecycle) wakeByLocked(at time.Time) {
	// Both are durations, since at may be the time of a clock that has been set since.
	if d := time.Until(at); d < time.Until(l.wakes) {
		l.wakeLocked(d)
	}
}

// awaitEnding returns a channel that is closed once it is decided how the session ends. It is
// called before begin.
func (l *lifecycle) awaitEnding() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.decided == nil {
		l.decided = make(chan struct{})
	}
	return l.decided
}

// current returns the phase, and how the session ends if that is decided.
func (l *lifecycle) current() (phase, ending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.phase < phaseDecided {
		return l.phase, ending{}
	}
	return l.phase, l.ending
}

// plan has the session end after d, with our Close frames, unless it ends earlier.
func (l *lifecycle) plan(d time.Duration, e ending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := time.Now().Add(d)
	if l.phase != phaseOpen || !l.deadline.IsZero() && l.deadline.Before(at) {
		return
	}
	l.ending, l.deadline = e, at
	if d <= 0 {
		l.enterLocked(phaseDecided)
	}
	l.wakeByLocked(at)
}

// expire has the session end at a time as e says, unless it ends earlier; at zero, it never
// expires. A time that was set before doesn't count any more. It reports whether the session
// has not begun to end.
func (l *lifecycle) expire(at time.Time, e ending) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.phase > phaseOpen {
		return false
	}
	l.expires, l.expired = at, e
	if l.phase == phaseOpen && !at.IsZero() {
		l.wakeByLocked(at)
	}
	return true
}

// expiresAt returns when the session expires, zero if it doesn't.
func (l *lifecycle) expiresAt() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.expires
}

// untilExpiredLocked returns how long it takes until the session expires.
func (l *lifecycle) untilExpiredLocked() time.Duration {
	if l.expires.IsZero() {
		return never
	}
	return time.Until(l.expires)
}

// end decides how the session ends, unless that is decided already: with a Close
// frame of a peer's, or without one. It returns how the session ends and whether
// this call decided it.
func (l *lifecycle) end(e ending) (decided ending, now bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.phase != phaseOpen {
		return l.ending, false
	}
	l.ending = e
	l.moveLocked(phaseClosing, l.wait)
	return e, true
}

// announce is end with Close frames of ours, of which the caller sends the
// client's.
func (l *lifecycle) announce(e ending) (decided ending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.phase == phaseOpen {
		l.ending = e
	}
	if l.phase == phaseOpen || l.phase == phaseDecided {
		l.announceLocked()
	}
	return l.ending
}

// announceLocked begins the end with Close frames of ours.
func (l *lifecycle) announceLocked() {
	if l.ending.withoutClose() || l.ending.by == byKeepaliveTimeout {
		l.wait = cutWait
	}
	l.moveLocked(phaseAnnounced, announceWait)
}

// sent notes that our Close frame to the client has left.
func (l *lifecycle) sent() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closeSent = true
	l.skipCloseLocked()
}

// skipClose notes that the client is sent no Close frame.
func (l *lifecycle) skipClose() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.skipCloseLocked()
}

func (l *lifecycle) skipCloseLocked() {
	if l.phase == phaseAnnounced {
		l.moveLocked(phaseSent, 0)
	}
}

// A watch is what next does about the keepalive of a peer: what to do when a Ping is due,
// and how the session ends if the peer is dead.
type watch struct {
	*heartbeat
	ping  action
	death ending
}

// next decides what is due and sets the timer for what comes after it. The timer
// is set before anything is written, so that a write that stalls is cut in its
// time.
func (l *lifecycle) next(peers ...watch) (action, ending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	due := !l.deadline.IsZero() && !time.Now().Before(l.deadline)
	if l.phase == phaseOpen && !due && l.untilExpiredLocked() <= 0 {
		l.ending, due = l.expired, true
	}
	switch {
	case l.phase == phaseOpen && !due:
		return l.keepaliveLocked(peers)
	case l.phase == phaseOpen, l.phase == phaseDecided:
		l.announceLocked()
		return actClose, l.ending
	case l.phase == phaseAnnounced && due:
		l.moveLocked(phaseClosing, max(l.wait-announceWait, cutWait))
		return actCloseApp, l.ending
	case l.phase == phaseSent:
		l.moveLocked(phaseClosing, l.wait)
		return actCloseApp, l.ending
	case l.phase == phaseClosing && due:
		l.moveLocked(phaseInterrupted, cutInterval)
		return actInterrupt, l.ending
	case l.phase == phaseInterrupted && due:
		l.moveLocked(phaseInterrupted, cutInterval)
		return actCut, l.ending
	case l.phase != phaseOver:
		l.wakeLocked(time.Until(l.deadline))
	}
	return actNone, l.ending
}

// keepaliveLocked is next while nothing else is due.
func (l *lifecycle) keepaliveLocked(peers []watch) (action, ending) {
	wake, act := l.untilExpiredLocked(), actNone
	for _, peer := range peers {
		if act != actNone {
			wake = 0 // the other peer's turn is next
			break
		}
		if peer.off.Load() {
			continue
		}
		ping, dead, next := peer.Check()
		if dead {
			l.ending = peer.death
			l.announceLocked()
			return actClose, l.ending
		}
		if ping {
			act = peer.ping
		}
		wake = min(wake, next)
	}
	if !l.deadline.IsZero() {
		wake = min(wake, time.Until(l.deadline))
	}
	l.wakeLocked(wake)
	return act, ending{}
}

// finish ends the last phase but one. It reports whether the session has ever been
// open, the first time that it is called.
func (l *lifecycle) finish() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.phase == phaseHandshake || l.phase == phaseOver {
		return false
	}
	l.enterLocked(phaseOver)
	l.timer.Stop()
	return true
}

// settle corrects the ending, once nothing can be written any more, if there was no way
// to send our Close frame.
func (l *lifecycle) settle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closeSent && !l.ending.peers {
		l.ending = l.ending.unsent()
	}
}

// enterLocked enters a phase after phaseOpen.
func (l *lifecycle) enterLocked(p phase) {
	if l.phase == phaseOpen && l.decided != nil {
		close(l.decided)
	}
	l.phase = p
}

// moveLocked moves on to a phase that lasts for d.
func (l *lifecycle) moveLocked(p phase, d time.Duration) {
	l.enterLocked(p)
	l.deadline = time.Now().Add(d)
	l.wakeLocked(d)
}

// spreadOver draws a moment from all of d.
func spreadOver(d time.Duration) time.Duration { return mathrand.N(d + 1) }

// spread draws a moment from the last tenth of d, so that sockets that were
// opened together don't come back together.
func spread(d time.Duration) time.Duration {
	return d - mathrand.N(d/10+1)
}
