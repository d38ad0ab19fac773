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

// metrics are the metrics of the whole process. Each config has a Prometheus registry of
// its own; the metrics are registered with all of them, so a reload loses no count.
var metrics = newCollector()

// A collector counts events that occur once per session or once per Ping as they occur,
// and adds up the rest over all sessions when it is scraped.
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
			Help: "WebSocket handshakes by result.",
		}, []string{"mode", "result"}),
		closes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: metricsPrefix + "closes_total",
			Help: "Closed sessions by close code and cause.",
		}, []string{"mode", "code", "cause"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    metricsPrefix + "session_duration_seconds",
			Help:    "Duration of closed sessions.",
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
			"Message payload bytes received from and sent to clients.", []string{"mode", "direction"}, nil),
	}
	// Series whose labels are known in advance start at 0, so that their first event
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

// expect adds the series of all ends that a handler's sessions can have, so that their
// first event shows as an increase, too.
func (m *collector) expect(h *Handler) {
	for _, end := range h.endings() {
		m.closes.WithLabelValues(h.Mode, codeLabel(end.code), string(end.by))
	}
}

// endings returns how the handler's sessions can end, with a code for each label.
func (h *Handler) endings() []ending {
	list := []ending{
		{by: byServer, code: websocket.CloseProtocolError},
		{by: byServer, code: websocket.CloseMessageTooBig},
		{by: byWriteTimeout, code: closeNone},
		{by: byReload, code: closeNone},
		{by: byError, code: closeNone},
	}
	if h.Mode == modeEcho {
		list = append(list, ending{by: byServer, code: websocket.CloseInvalidFramePayloadData})
	}
	for by := range closeCodes {
		if h.Mode == modePassthrough || !by.upstreams() {
			list = append(list, h.ending(by))
		}
	}
	const last = websocket.CloseTLSHandshake // from there on, all codes have one label
	for code := websocket.CloseNormalClosure; code <= last; code++ {
		list = append(list, ending{by: byClient, code: code})
		if h.Mode == modePassthrough {
			list = append(list, ending{by: byUpstream, code: code})
		}
		if maySendCode(code) || code == last {
			list = append(list, ending{by: byAdmin, code: code})
		}
	}
	return list
}

// The results of handshakes that passed all checks.
const (
	handshakeAccepted = "accepted"
	handshakeDeclined = "declined" // by the next handler, which answered otherwise
	handshakeFailed   = "failed"
)

// refusals are the results of handshakes that did not, by status.
var refusals = map[int]string{
	http.StatusBadRequest:         "malformed",
	http.StatusForbidden:          "origin_forbidden",
	http.StatusMethodNotAllowed:   "wrong_method",
	http.StatusUpgradeRequired:    "wrong_version",
	http.StatusNotImplemented:     "wrong_protocol",
	http.StatusServiceUnavailable: "too_many",
}

// refused counts a handshake that was refused with err.
func (m *collector) refused(mode string, err error) {
	result := handshakeFailed
	if refusal, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
		if r, ok := refusals[refusal.StatusCode]; ok {
			result = r
		}
	}
	m.countHandshake(mode, result)
}

// countHandshake counts a handshake.
func (m *collector) countHandshake(mode, result string) {
	m.handshakes.WithLabelValues(mode, result).Inc()
}

// closed counts a session that has ended.
func (m *collector) closed(s *session) {
	mode := s.handler.Mode
	_, end := s.current()
	m.closes.WithLabelValues(mode, codeLabel(end.code), string(end.by)).Inc()
	m.durations.WithLabelValues(mode).Observe(s.keepalive.Now().Seconds())
}

// codeLabel returns the label for a close code. All codes that a client is free to choose
// share the label "other", so that clients can't create any number of series.
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

// register adds the metrics to those of ctx's config, unless that has been done.
func (m *collector) register(ctx caddy.Context) error {
	err := ctx.GetMetricsRegistry().Register(m)
	if _, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		return nil // another handler has registered it
	}
	return err
}

// A tally holds totals over sessions of one mode, both open and ended.
type tally struct {
	open           int
	received, sent counts
}

// counts are the values of a traffic at one moment.
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

// tallies returns the totals over all sessions of the process, by mode. A session that
// ends meanwhile is counted as open.
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
