package caddywebsocket

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// metrics are those of the whole process. Every config has a registry of its
// own, into which they go anew, so a reload loses no count.
var metrics = newCollector()

// A collector counts what happens once a session, or once a Ping, as it
// happens, and asks the sessions for the rest when it is scraped.
type collector struct {
	handshakes *prometheus.CounterVec   // by mode, result
	closes     *prometheus.CounterVec   // by mode, code, cause
	durations  *prometheus.HistogramVec // by mode
	roundTrips *prometheus.HistogramVec // by mode
	open       *prometheus.Desc         // by mode
	messages   *prometheus.Desc         // by mode, direction
	bytes      *prometheus.Desc         // by mode, direction
}

const metricsPrefix = "caddy_websocket_"

func newCollector() *collector {
	m := &collector{
		handshakes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: metricsPrefix + "handshakes_total",
			Help: "WebSocket handshakes by what became of them.",
		}, []string{"mode", "result"}),
		closes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: metricsPrefix + "closes_total",
			Help: "Ended sessions by close code and by who or what ended them.",
		}, []string{"mode", "code", "cause"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    metricsPrefix + "session_duration_seconds",
			Help:    "How long ended sessions lasted.",
			Buckets: []float64{.1, 1, 10, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600},
		}, []string{"mode"}),
		roundTrips: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    metricsPrefix + "ping_rtt_seconds",
			Help:    "Round-trip times of keepalive pings.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"mode"}),
		open: prometheus.NewDesc(metricsPrefix+"open_sessions",
			"Open sessions.", []string{"mode"}, nil),
		messages: prometheus.NewDesc(metricsPrefix+"messages_total",
			"Messages received from and sent to clients.", []string{"mode", "direction"}, nil),
		bytes: prometheus.NewDesc(metricsPrefix+"message_bytes_total",
			"Bytes of message payload received from and sent to clients.", []string{"mode", "direction"}, nil),
	}
	// What can be named beforehand starts at 0, so that the first of its kind
	// shows as an increase.
	for _, mode := range []string{modeEcho, modePassthrough} {
		m.durations.WithLabelValues(mode)
		m.roundTrips.WithLabelValues(mode)
		for _, result := range refusals {
			m.handshakes.WithLabelValues(mode, result)
		}
		m.handshakes.WithLabelValues(mode, handshakeAccepted)
	}
	m.handshakes.WithLabelValues(modeEcho, handshakeFailed)
	m.handshakes.WithLabelValues(modePassthrough, handshakeDeclined)
	return m
}

// The results of handshakes that pass all checks.
const (
	handshakeAccepted = "accepted"
	handshakeDeclined = "declined" // by the next handler, which answered otherwise
	handshakeFailed   = "failed"
)

// refusals are the results of those that don't, by status.
var refusals = map[int]string{
	http.StatusBadRequest:         "malformed",
	http.StatusForbidden:          "origin_forbidden",
	http.StatusMethodNotAllowed:   "wrong_method",
	http.StatusUpgradeRequired:    "wrong_version",
	http.StatusNotImplemented:     "wrong_protocol",
	http.StatusServiceUnavailable: "too_many",
}

// refused counts a handshake that err refuses.
func (m *collector) refused(mode string, err error) {
	result := handshakeFailed
	if refusal, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
		if r, ok := refusals[refusal.StatusCode]; ok {
			result = r
		}
	}
	m.handshook(mode, result)
}

// handshook counts a handshake.
func (m *collector) handshook(mode, result string) {
	m.handshakes.WithLabelValues(mode, result).Inc()
}

// closed counts a session that has ended.
func (m *collector) closed(s *session) {
	mode := s.handler.Mode
	_, end := s.current()
	m.closes.WithLabelValues(mode, codeLabel(end.code), string(end.by)).Inc()
	m.durations.WithLabelValues(mode).Observe(s.keepalive.Now().Seconds())
}

// codeLabel is a close code as a label has it: those of RFC 6455 and the IANA
// registry as they are, all others, which a client is free to choose, as one.
func codeLabel(code int) string {
	if ws.ValidCloseCode(code) && code < 3000 ||
		code == websocket.CloseNoStatusReceived || code == websocket.CloseAbnormalClosure {
		return strconv.Itoa(code)
	}
	return "other"
}

// Describe implements prometheus.Collector.
func (m *collector) Describe(descs chan<- *prometheus.Desc) {
	m.handshakes.Describe(descs)
	m.closes.Describe(descs)
	m.durations.Describe(descs)
	m.roundTrips.Describe(descs)
	descs <- m.open
	descs <- m.messages
	descs <- m.bytes
}

// Collect implements prometheus.Collector.
func (m *collector) Collect(ch chan<- prometheus.Metric) {
	m.handshakes.Collect(ch)
	m.closes.Collect(ch)
	m.durations.Collect(ch)
	m.roundTrips.Collect(ch)
	for mode, t := range sessions.tallies() {
		ch <- prometheus.MustNewConstMetric(m.open, prometheus.GaugeValue, float64(t.open), mode)
		for direction, n := range map[string]counts{"received": t.received, "sent": t.sent} {
			ch <- prometheus.MustNewConstMetric(m.messages, prometheus.CounterValue, float64(n.messages), mode, direction)
			ch <- prometheus.MustNewConstMetric(m.bytes, prometheus.CounterValue, float64(n.bytes), mode, direction)
		}
	}
}

// register has the metrics served with those of ctx's config, once.
func (m *collector) register(ctx caddy.Context) error {
	err := ctx.GetMetricsRegistry().Register(m)
	if _, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		return nil // by another handler
	}
	return err
}

// A tally is what the sessions of a mode, open and ended, add up to.
type tally struct {
	open           int
	received, sent counts
}

// counts are what a traffic says at one moment.
type counts struct {
	messages, bytes int64
}

func (c *counts) add(t *traffic) {
	c.messages += t.messages.Load()
	c.bytes += t.bytes.Load()
}

func (t *tally) add(s *session) {
	t.received.add(&s.received)
	t.sent.add(&s.sent)
}

// tallies adds up all sessions that there have been, by mode. It counts a session
// that ends meanwhile as an open one.
func (g *registry) tallies() map[string]tally {
	sums := map[string]tally{modeEcho: {}, modePassthrough: {}}
	g.mu.Lock()
	maps.Copy(sums, g.ended)
	open := slices.Clone(g.ordered)
	g.mu.Unlock()
	for _, s := range withoutGaps(open) {
		sum := sums[s.handler.Mode]
		sum.open++
		sum.add(s)
		sums[s.handler.Mode] = sum
	}
	return sums
}
