package caddywebsocket

import (
	"encoding/binary"
	mathrand "math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// A heartbeat is the keepalive of one peer, with our Pings to it.
type heartbeat struct {
	ws.Keepalive
	// off is set when it isn't known any more where frames to the peer end.
	off atomic.Bool

	// Our Pings carry nonce and the number of the Ping, so that no late Pong is taken
	// for one to somebody else's.
	nonce    uint32
	pings    atomic.Uint32
	answered atomic.Uint32 // the number of the last Ping, once that was answered
	pingedAt atomic.Int64  // by the clock of the keepalive
	rtt      atomic.Int64  // the last round-trip time, in nanoseconds; 0: none yet
}

// newNonce returns a nonce that tells our Pings from those of others.
func newNonce() uint32 { return mathrand.Uint32() }

// nextPing returns the payload of a Ping that is about to be written.
func (b *heartbeat) nextPing() []byte {
	b.pingedAt.Store(int64(b.Now()))
	return b.pingPayload(b.pings.Add(1))
}

// pingPayload returns the payload of our n-th Ping.
func (b *heartbeat) pingPayload(n uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, b.nonce), n)
}

// unanswered reports whether the last Ping has not been answered.
func (b *heartbeat) unanswered() bool { return b.pings.Load() != b.answered.Load() }

// pong reports whether a Pong with the given payload answers one of our Pings, and
// whether that is the last one, for the first time; then it records the round-trip time.
func (b *heartbeat) pong(payload []byte) (ours, last bool) {
	if len(payload) != ws.PingPayloadLen || binary.BigEndian.Uint32(payload) != b.nonce {
		return false, false
	}
	n, sent := binary.BigEndian.Uint32(payload[4:]), b.pings.Load()
	if n == sent && b.answered.Swap(n) != n { // a peer may send the same Pong again
		b.rtt.Store(int64(b.Now() - time.Duration(b.pingedAt.Load())))
		last = true
	}
	return n > 0 && n <= sent, last
}

// ping sends the client a Ping. If that fails, it ends the session, since the handler may
// go on reading for a long time before it notices.
func (s *session) ping() {
	s.out.Post(ws.OpPing, nil)
	if err := s.out.Err(); err != nil {
		s.writeFailed(err)
	}
}

// writeFailed ends the session for an error of a write, unless its client has closed it before.
func (s *session) writeFailed(err error) {
	if !s.closeIgnored.Load() {
		s.failed(err)
	}
	s.stream.Cut()
}

// pong reports whether a Pong from the client answers one of our Pings.
func (s *session) pong(payload []byte) bool {
	ours, last := s.keepalive.pong(payload)
	if last {
		metrics.roundTrips.WithLabelValues(s.account.labels()...).Observe(time.Duration(s.keepalive.rtt.Load()).Seconds())
	}
	return ours
}
