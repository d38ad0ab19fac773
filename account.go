package caddywebsocket

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// An account is what the sessions of one scope are counted in. It holds their metrics: to
// look one up by its labels takes longer than to count, and more stack than an idle socket
// needs.
type account struct {
	scope
	of *collector

	// These are guarded by the collector's lock.
	sessions int  // how many have the account
	used     bool // sessions can have it, or have had it

	ended tally // of the sessions that are not open any more; guarded by the registry's lock

	accepted  prometheus.Counter  // handshakes; nil until there is a session
	durations prometheus.Observer // likewise

	mu     sync.Mutex // guards the following
	closes map[closeLabels]prometheus.Counter
}

// closeLabels are the labels of a close besides its scope.
type closeLabels struct{ code, cause string }

// accountLocked returns the account of a scope.
func (m *collector) accountLocked(c scope) *account {
	a, ok := m.accounts[c]
	if !ok {
		a = &account{scope: c, of: m}
		m.accounts[c] = a
	}
	return a
}

// openAccount returns the account of a scope for a session that opens. It stays the only one
// of that scope until the session calls release.
func (m *collector) openAccount(c scope) *account {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.accountLocked(c)
	a.sessions++
	a.used = true
	if a.accepted == nil {
		a.accepted = m.handshakes.WithLabelValues(c.labels(handshakeAccepted)...)
		a.durations = m.durations.WithLabelValues(c.labels()...)
		a.closes = make(map[closeLabels]prometheus.Counter)
	}
	return a
}

// release is openAccount's counterpart.
func (a *account) release() {
	a.of.mu.Lock()
	defer a.of.mu.Unlock()
	a.sessions--
}

// close counts a session that has ended.
func (a *account) close(s *session) {
	_, end := s.current()
	a.durations.Observe(s.keepalive.Now().Seconds())
	labels := closeLabels{codeLabel(end.code), string(end.by)}
	a.mu.Lock()
	defer a.mu.Unlock()
	closes, ok := a.closes[labels]
	if !ok {
		closes = a.of.closes.WithLabelValues(a.labels(labels.code, labels.cause)...)
		a.closes[labels] = closes
	}
	closes.Inc()
}

// A tally holds totals over sessions of one scope, both open and ended.
type tally struct {
	open           int
	received, sent counts
}

// counts are the values of a [ws.Traffic] at one moment.
type counts struct {
	messages, bytes int64
}

func (c *counts) add(t *ws.Traffic) {
	c.messages += t.Messages()
	c.bytes += t.Bytes()
}

func (t *tally) merge(other *tally) {
	t.open += other.open
	t.received.merge(other.received)
	t.sent.merge(other.sent)
}

func (c *counts) merge(other counts) {
	c.messages += other.messages
	c.bytes += other.bytes
}

func (t *tally) add(s *session) {
	t.received.add(&s.received)
	t.sent.add(&s.sent)
}
