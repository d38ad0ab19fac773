package caddywebsocket

import (
	"sync/atomic"
	"time"
)

// keepalive knows when a socket's peer was last heard and last written to, and
// from that when a Ping is due and when the peer is dead. It holds no timer: a
// session asks it when to look again.
type keepalive struct {
	interval time.Duration // 0: no pings and no death
	timeout  time.Duration
	start    time.Time
	// Times since start, kept by those who read and write.
	lastHeard, lastSent atomic.Int64
	// listening is whether a read from the client is under way: what nobody reads
	// may well be there.
	listening atomic.Bool
	deaf      atomic.Bool   // check found that nobody listened
	lastPing  time.Duration // the session's timer alone uses it
}

func (k *keepalive) now() time.Duration { return time.Since(k.start) }

// listen notes that a read begins. Silence counts from here if nobody listened
// for a while.
func (k *keepalive) listen() {
	if k.deaf.Load() {
		k.deaf.Store(false)
		k.lastHeard.Store(int64(k.now()))
	}
	k.listening.Store(true)
}

// heard notes that it ended with some bytes: any byte is a sign of life, one in
// the middle of a slow frame too.
func (k *keepalive) heard() {
	k.lastHeard.Store(int64(k.now()))
	k.listening.Store(false)
}

// sent notes that bytes went out.
func (k *keepalive) sent() { k.lastSent.Store(int64(k.now())) }

// check tells what is due at this moment and how long it is until something
// else can be. A Ping is due when either direction has been silent for the
// interval, and again at each interval for as long as it stays so.
func (k *keepalive) check() (ping, dead bool, next time.Duration) {
	now := k.now()
	if !k.listening.Load() {
		k.deaf.Store(true)
		k.lastHeard.Store(int64(now))
	}
	heard := time.Duration(k.lastHeard.Load())
	silent := min(heard, time.Duration(k.lastSent.Load()))
	if now >= heard+k.timeout {
		return false, true, 0
	}
	if now >= max(silent, k.lastPing)+k.interval {
		ping = true
		k.lastPing = now
	}
	return ping, false, min(max(silent, k.lastPing)+k.interval, heard+k.timeout) - now
}
