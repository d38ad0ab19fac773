package ws

import (
	"math"
	"sync/atomic"
	"time"
)

// keepalive knows when a socket's peer was last heard and last written to, and
// from that when a Ping is due and when the peer is dead. It holds no timer: a
// session asks it when to look again.
type Keepalive struct {
	interval time.Duration // 0: no pings and no death
	timeout  time.Duration // longer than interval
	start    time.Time
	// Times since start, kept by those who read and write.
	lastHeard, lastSent atomic.Int64
	// unanswered is when the first Ping since lastHeard had been written. It is
	// before lastHeard if there was none.
	unanswered atomic.Int64
	// listening is whether a read from the client is under way: what nobody reads
	// may well be there. Likewise, a write that is under way is write_timeout's to
	// judge.
	listening, writing atomic.Bool
	unheard            atomic.Bool   // check found that nobody listened
	lastPing           time.Duration // when a Ping was last due; the session's timer alone uses it
}

// begin begins the time that passes for it. An interval of 0 turns it off.
func (k *Keepalive) Begin(interval, timeout time.Duration) {
	k.interval, k.timeout, k.start = interval, timeout, time.Now()
}

// now is the time since begin.
func (k *Keepalive) Now() time.Duration { return time.Since(k.start) }

// listen notes that a read begins. Silence counts from here if nobody listened
// for a while.
func (k *Keepalive) Listen() {
	if k.unheard.Load() {
		k.unheard.Store(false)
		k.lastHeard.Store(int64(k.Now()))
	}
	k.listening.Store(true)
}

// heard notes that it ended with some bytes: any byte is a sign of life, one in
// the middle of a slow frame too.
func (k *Keepalive) Heard() {
	k.lastHeard.Store(int64(k.Now()))
	k.listening.Store(false)
}

// send notes that a write begins.
func (k *Keepalive) send() { k.writing.Store(true) }

// sent notes that a write has ended.
func (k *Keepalive) sent() {
	k.lastSent.Store(int64(k.Now()))
	k.writing.Store(false)
}

// pinged notes that a Ping has been written.
func (k *Keepalive) pinged() {
	if k.unanswered.Load() <= k.lastHeard.Load() {
		k.unanswered.Store(int64(k.Now()))
	}
}

// check tells what is due at this moment and how long it is until something
// else can be. A Ping is due when either direction has been silent for the
// interval, and again at each interval for as long as it stays so.
//
// Only a client that was asked can be dead: one that has been silent for the
// timeout, of which a Ping had the part after the interval to be answered. While
// a Ping waits behind a frame that is still being sent, the client is alive for
// as long as it takes the frame in.
//
// Without an interval nothing is ever due.
func (k *Keepalive) Check() (ping, dead bool, next time.Duration) {
	const never = math.MaxInt64
	if k.interval == 0 {
		return false, false, never
	}
	now := k.Now()
	if !k.listening.Load() {
		k.unheard.Store(true)
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
