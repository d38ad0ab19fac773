package ws

import (
	"math"
	"sync/atomic"
	"time"
)

// A Keepalive records when a client was last heard from and last written to, and
// derives from that when to send a Ping and when the client is dead. It has no timer
// of its own: Check returns when to call it again.
//
// Begin must be called before anything else. The other methods may then be called
// from any goroutine, except Check, which is for one at a time.
type Keepalive struct {
	interval time.Duration // 0: no Pings, and the client never counts as dead
	timeout  time.Duration // longer than interval
	start    time.Time

	lastHeard, lastSent atomic.Int64 // times since start
	// unanswered is the time at which the first Ping since lastHeard was written. It
	// is before lastHeard if there was none.
	unanswered atomic.Int64
	// listening is set while a read from the client is under way. Without one,
	// silence proves nothing. Likewise, while a write is under way, it is for the
	// write timeout to find out whether the client is dead.
	listening, writing atomic.Bool
	paused             atomic.Bool   // Check found that no read was under way
	lastPing           time.Duration // when Check last asked for a Ping; used by Check alone
}

// Begin starts the clock. The interval is how long either direction may be silent
// before a Ping is sent, the timeout how long the client may be silent before it
// counts as dead; it must be longer than the interval. An interval of 0 turns
// keepalive off.
func (k *Keepalive) Begin(interval, timeout time.Duration) {
	k.interval, k.timeout, k.start = interval, timeout, time.Now()
}

// Now returns the time since Begin.
func (k *Keepalive) Now() time.Duration { return time.Since(k.start) }

// Listen records that a read from the client begins. If none was under way for a
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
	k.lastHeard.Store(int64(k.Now()))
	k.listening.Store(false)
}

// beginWrite records that a write to the client begins.
func (k *Keepalive) beginWrite() { k.writing.Store(true) }

// endWrite records that the write has ended.
func (k *Keepalive) endWrite() {
	k.lastSent.Store(int64(k.Now()))
	k.writing.Store(false)
}

// pingSent records that a Ping has been written.
func (k *Keepalive) pingSent() {
	if k.unanswered.Load() <= k.lastHeard.Load() {
		k.unanswered.Store(int64(k.Now()))
	}
}

// Check reports whether to send a Ping now, whether the client is dead, and how long
// to wait before the next Check. A Ping is due when either direction has been silent
// for the interval, and again after each further interval of silence.
//
// Only a client that was sent a Ping can be dead: one that has been silent for the
// timeout and has had the time between interval and timeout to answer. While a Ping
// waits behind a frame that is still being written, the client is alive for as long
// as it accepts bytes of that frame.
//
// With keepalive turned off, next is the longest duration there is.
func (k *Keepalive) Check() (ping, dead bool, next time.Duration) {
	const never = math.MaxInt64
	if k.interval == 0 {
		return false, false, never
	}
	now := k.Now()
	if !k.listening.Load() {
		k.paused.Store(true)
		k.lastHeard.Store(int64(now))
	}
	heard, sent := time.Duration(k.lastHeard.Load()), time.Duration(k.lastSent.Load())
	due := max(min(heard, sent), k.lastPing) + k.interval
	if k.writing.Load() {
		sent = now
	}
	waiting := max(heard, sent) + k.timeout
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
