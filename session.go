package caddywebsocket

import (
	"context"
	"crypto/rand"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed-21dbdb71/caddy-websocket/internal/controls"
	"github.com/seed-21dbdb71/caddy-websocket/internal/limit"
	"github.com/seed-21dbdb71/caddy-websocket/internal/stream"
	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// A session is one socket, from its handshake, which may yet fail, until
// its handler returns.
//
// Locks are taken in this order: those of a tunnel's two directions, a ws.Writer's,
// the registry's, the lifecycle's. The last two are not held while reading or
// writing.
type session struct {
	lifecycle

	id        string
	handler   *Handler
	request   context.Context // of the handshake
	handshake requestInfo
	agreement atomic.Pointer[agreement] // nil until there is one
	place     int                       // in the registry, which guards it
	rates     *limit.Stream             // stream, if there are limits on what the client may send
	recheck   *recheck                  // nil if its handler has none
	asked     *controls.Controls        // what its client asks for, with test_controls; nil: nothing
	claims    []limit.Claim             // by which its socket is counted
	upstream  string                    // where reverse_proxy has dialed, once it has
	account   *account                  // from then on
	stream    stream.Stream             // there is one from when the handshake is accepted
	out       ws.Writer                 // to the client
	keepalive heartbeat                 // the client's
	app       *tunnel                   // in passthrough: the application's side
	// closeIgnored is set when the client has sent a Close frame that it wants no answer to.
	closeIgnored atomic.Bool
	// unsupervised says why not all frames are seen.
	unsupervised atomic.Pointer[string]

	received, sent ws.Traffic // from and to the client: after decompression in echo, as on the wire in passthrough
}

// metered returns a stream with the limits on what the client may send, if there are any.
func (s *session) metered(whole stream.Stream) stream.Stream {
	h := s.handler
	if h.MessageRate == nil && h.ByteRate == nil {
		return whole
	}
	meter := limit.NewMeter(h.MessageRate.limit("message"), h.ByteRate.limit("byte"), s.keepalive.pings.Load)
	s.rates = limit.NewStream(whole, meter, &s.keepalive.Keepalive, int(h.BufferSize), s.awaitEnding(), s.request.Done(), s.countDelay)
	return s.rates
}

// countDelay counts for how long the client was held back.
func (s *session) countDelay(d time.Duration) {
	metrics.delays.WithLabelValues(s.account.labels()...).Add(d.Seconds())
}

// newSession makes a session of a handshake that has passed all checks.
func newSession(h *Handler, r *http.Request) *session {
	s := &session{
		id:        rand.Text(),
		handler:   h,
		request:   r.Context(),
		handshake: newRequestInfo(r),
		keepalive: heartbeat{nonce: newNonce()},
	}
	s.recheck = h.rechecker.newRecheck(s, r)
	return s
}

// begin begins the session when the handshake is accepted.
func (s *session) begin(stream stream.Stream) {
	s.upstream = s.dialed() // may panic, in a placeholder of somebody's: nothing has begun yet
	s.account = metrics.openAccount(s.scopeOf(s.upstream))
	s.stream = s.metered(stream)
	interval := max(0, time.Duration(s.handler.KeepaliveInterval))
	s.keepalive.Begin(interval, time.Duration(s.handler.KeepaliveTimeout)) // from here: to accept may have taken long
	s.out.Begin(s.stream, &s.keepalive.Keepalive, s.keepalive.nextPing, s.lifecycle.sent)
	first := never
	if interval > 0 {
		first = interval
	}
	if s.app != nil {
		first = min(first, s.app.beginAppKeepalive())
	}
	s.lifecycle.begin(s.tick, first)
	if lifetime := time.Duration(s.handler.MaxLifetime); lifetime > 0 {
		s.plan(spread(lifetime), s.handler.ending(byLifetime))
	}
	sessions.add(s)
	s.account.accepted.Inc()
	s.reportOpened()
	s.recheck.schedule()
}

// dialed returns the address that reverse_proxy has dialed, empty if there is none.
func (s *session) dialed() string {
	repl, ok := s.request.Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		return ""
	}
	upstream, _ := repl.GetString("http.reverse_proxy.upstream.hostport")
	return upstream
}

// began returns when the handshake was accepted.
func (s *session) began() time.Time { return time.Now().Add(-s.keepalive.Now()) }

// begun reports whether the handshake has been accepted.
func (s *session) begun() bool {
	phase, _ := s.current()
	return phase != phaseHandshake
}

// expire has the session end when its login does; at zero, never. It reports whether the
// session has not begun to end already.
func (s *session) expire(at time.Time) bool {
	return s.lifecycle.expire(at, s.handler.ending(byExpired))
}

// tick does what is due.
func (s *session) tick() {
	defer s.contain(nil)
	switch act, end := s.next(s.peers()...); act {
	case actNone:
	case actPing:
		s.ping()
	case actPingApp:
		s.app.pingApp()
	case actClose:
		s.sendClose(end)
	case actCloseApp:
		if s.app != nil {
			s.app.sendAppClose(end)
		}
	case actInterrupt:
		s.stream.Interrupt()
		if s.app != nil {
			s.app.detachApp()
		}
	case actCut:
		s.stream.Cut()
	}
}

// peers returns the peers that are sent Pings.
func (s *session) peers() []watch {
	peers := []watch{{&s.keepalive, actPing, s.handler.ending(byKeepaliveTimeout)}}
	if s.app != nil && s.app.appKeepalive.On() {
		peers = append(peers, watch{&s.app.appKeepalive, actPingApp, s.handler.ending(byUpstreamTimeout)})
	}
	return peers
}

// failed ends the session for an error of its stream.
func (s *session) failed(err error) { s.end(s.endingOf(err)) }

// closeWith ends the session with Close frames of ours.
func (s *session) closeWith(e ending) { s.sendClose(s.announce(e)) }

// sendClose sends the client a Close frame of ours, if it is to have one.
func (s *session) sendClose(e ending) {
	if e.withoutClose() {
		s.skipClose()
	} else {
		s.out.Post(ws.OpClose, e.payload())
	}
}

// finish is the last thing that a handler does with its session, if that has begun.
func (s *session) finish() {
	if !s.lifecycle.finish() {
		return
	}
	defer s.account.release()
	defer sessions.remove(s)
	s.recheck.stop()
	s.out.End(s.stream.Cut)
	s.settle()
	s.stream.Close()
	s.countOut() // before anybody hears that it is closed
	s.reportClosed()
}
