package caddywebsocket

import (
	"encoding/binary"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// ping sends a Ping. If that fails, it ends the session, since the handler may go on
// reading for a long time before it notices.
func (s *session) ping() {
	s.out.Post(ws.OpPing, nil)
	if err := s.out.Err(); err != nil {
		s.failed(err)
		s.stream.Cut()
	}
}

// nextPing returns the payload of a Ping that is about to be written.
func (s *session) nextPing() []byte {
	s.pingedAt.Store(int64(s.keepalive.Now()))
	return s.pingPayload(s.pings.Add(1))
}

// pingPayload returns the payload of our n-th Ping.
func (s *session) pingPayload(n uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, s.nonce), n)
}

// pong reports whether a Pong with the given payload answers one of our Pings. If it
// answers the last one, pong records the round-trip time.
func (s *session) pong(payload []byte) bool {
	if len(payload) != ws.PingPayloadLen || binary.BigEndian.Uint32(payload) != s.nonce {
		return false
	}
	n, last := binary.BigEndian.Uint32(payload[4:]), s.pings.Load()
	if n == last && s.answered.Swap(n) != n { // a client may send the same Pong again
		rtt := s.keepalive.Now() - time.Duration(s.pingedAt.Load())
		s.rtt.Store(int64(rtt))
		metrics.roundTrips.WithLabelValues(s.handler.Mode).Observe(rtt.Seconds())
	}
	return n > 0 && n <= last
}
