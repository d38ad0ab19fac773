package ws

import (
	"math"
	"sync/atomic"
	"time"
)

// A Keepalive records when a peer was last heard from and last written to, and
// derives from that when to send a Ping and when the peer is dead. It has no timer
// of its own: Check returns when to call it again.
//
// Begin or BeginApp must be called before anything else; until then keepalive is off.
// The other methods may then be called from any goroutine, except Check, which is for
// one at a time.
type Keepalive struct {
	interval    time.Duration // 0: no Pings, and the peer never counts as dead
	timeout     time.Duration // longer than interval
	start       time.Time
	timesWrites bool // a write that takes the timeout shows that the peer is dead

	lastHeard, lastSent atomic.Int64 // times since start
	// unanswered is the time at which the first Ping since lastHeard was written. It
	// is before lastHeard if there was none.
	unanswered atomic.Int64
	// listening is set while a read from the peer is under way. Without one, silence
	// proves nothing. Likewise, while a write to a client is under way, it is for the
	// write timeout to find out whether the client is dead.
	listening, writing atomic.Bool
	writingSince       atomic.Int64  // when the last write began, with timesWrites
	paused             atomic.Bool   // Check found that no read was under way
	lastPing           time.Duration // when Check last asked for a Ping; used by Check alone
}

// Begin starts the clock. The interval is how long either direction may be silent
// before a Ping is sent, the timeout how long the peer may be silent before it
// counts as dead; it must be longer than the interval. An interval of 0 turns
// keepalive off.
func (k *Keepalive) Begin(interval, timeout time.Duration) {
	k.interval, k.timeout, k.start = interval, timeout, time.Now()
}

// BeginApp is Begin for an application. Nothing else limits how long a write to it may
// take, so one that takes the timeout shows that it is dead, unless it is heard from.
func (k *Keepalive) BeginApp(interval, timeout time.Duration) {
	k.Begin(interval, timeout)
	k.timesWrites = true
}

// On reports whether keepalive is not turned off.
func (k *Keepalive) On() bool { return k.interval > 0 }

// Now returns the time since Begin.
func (k *Keepalive) Now() time.Duration { return time.Since(k.start) }

// Listen records that a read from the peer begins. If none was under way for a
// while, silence counts from here.
func (k *Keepalive) Listen() {
	if k.paused.Load() {
		k.paused.Store(false)
		k.lastHeard.Store(int64(k.Now()))
	}
	k.listening.Store(true)
}

// Heard records that the read returned bytes. Any byte is a sign of life, even one in
// the middle of a slow frame.
func (k *Keepalive) Heard() {
	if k.interval == 0 {
		return
	}
	k.lastHeard.Store(int64(k.Now()))
	k.listening.Store(false)
}

// BeginWrite records that a write to the peer begins.
func (k *Keepalive) BeginWrite() {
	if k.timesWrites && k.interval > 0 {
		k.writingSince.Store(int64(k.Now()))
	}
	k.writing.Store(true)
}

// EndWrite records that the write has ended.
func (k *Keepalive) EndWrite() {
	if k.interval == 0 {
		return
	}
	k.lastSent.Store(int64(k.Now()))
	k.writing.Store(false)
}

// PingSent records that a Ping has been written.
func (k *Keepalive) PingSent() {
	if k.unanswered.Load() <= k.lastHeard.Load() {
		k.unanswered.Store(int64(k.Now()))
	}
}

// Check reports whether to send a Ping now, whether the peer is dead, and how long
// to wait before the next Check. A Ping is due when either direction has been silent
// for the interval, and again after each further interval of silence.
//
// Only a peer that was sent a Ping can be dead: one that has been silent for the
// timeout and has had the time between interval and timeout to answer. While a Ping
// waits behind a frame that is still being written, a client is alive for as long as it
// accepts bytes of that frame, and an application until a write takes the timeout: the
// rest of the frame may yet have to come from the client.
//
// With keepalive turned off, next is the longest duration there is.
func (k *Keepalive) Check() (ping, dead bool, next time.Duration) {
	const never = math.MaxInt64
	if !k.On() {
		return false, false, never
	}
	now := k.Now()
	if !k.listening.Load() {
		k.paused.Store(true)
		k.lastHeard.Store(int64(now))
	}
	heard, sent := time.Duration(k.lastHeard.Load()), time.Duration(k.lastSent.Load())
	due := max(min(heard, sent), k.lastPing) + k.interval
	waiting := k.waitingUntil(now, heard, sent)
	death := time.Duration(never)
	if asked := time.Duration(k.unanswered.Load()); asked > heard {
		death = max(heard+k.timeout, asked+k.timeout-k.interval)
	} else if k.lastPing > heard {
		death = waiting
	}
	if now >= death {
		return false, true, 0
	}
	if now >= due {
		ping = true
		k.lastPing = now
		due, death = now+k.interval, min(death, waiting)
	}
	return ping, false, min(due, death) - now
}

// waitingUntil returns how long a peer counts as alive while a Ping waits to be written.
func (k *Keepalive) waitingUntil(now, heard, sent time.Duration) time.Duration {
	switch writing := k.writing.Load(); {
	case k.timesWrites && writing:
		return max(heard, time.Duration(k.writingSince.Load())) + k.timeout
	case k.timesWrites:
		return math.MaxInt64
	case writing:
		return now + k.timeout
	default:
		return max(heard, sent) + k.timeout
	}
}
