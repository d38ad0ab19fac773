package caddywebsocket

import (
	"errors"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-21dbdb71/caddy-websocket/internal/routes"
	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// metrics are the metrics of the whole process. Each config has a Prometheus registry of
// its own; the metrics are registered with all of them, so a reload loses no count.
var metrics = newCollector()

// A collector counts events that occur once per session or once per Ping as they occur,
// and adds up the rest over all sessions when it is scraped.
type collector struct {
	handshakes *prometheus.CounterVec   // by scope, result
	closes     *prometheus.CounterVec   // by scope, code, cause
	rechecks   *prometheus.CounterVec   // by scope, result
	delays     *prometheus.CounterVec   // by scope
	durations  *prometheus.HistogramVec // by scope
	roundTrips *prometheus.HistogramVec // by scope
	open       *prometheus.Desc         // by scope
	messages   *prometheus.Desc         // by scope, direction
	bytes      *prometheus.Desc         // by scope, direction
	retained   *prometheus.Desc

	mu       sync.Mutex // guards accounts
	accounts map[scope]*account
}

// A scope is what every series is about: a mode, one of Caddy's HTTP servers and, for
// sockets that reverse_proxy serves, an upstream. Clients can't add scopes: the names are
// those of the config.
type scope struct{ mode, server, upstream string }

var scopeLabels = []string{"mode", "server", "upstream"}

// labels returns the scope's labels, followed by more.
func (c scope) labels(more ...string) []string {
	return append([]string{c.mode, c.server, c.upstream}, more...)
}

// dynamicUpstream stands for all upstreams that the config doesn't name.
const dynamicUpstream = "dynamic"

const metricsPrefix = "caddy_websocket_"

func newCollector() *collector {
	m := &collector{
		accounts: make(map[scope]*account),
		handshakes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: metricsPrefix + "handshakes_total",
			Help: "WebSocket handshakes by result.",
		}, scopeLabelsAnd("result")),
		closes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: metricsPrefix + "closes_total",
			Help: "Closed sessions by close code and cause.",
		}, scopeLabelsAnd("code", "cause")),
		rechecks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: metricsPrefix + "rechecks_total",
			Help: "Rechecks of the handshakes of open sessions by result.",
		}, scopeLabelsAnd("result")),
		delays: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: metricsPrefix + "rate_delay_seconds_total",
			Help: "Time for which clients were held back by message_rate and byte_rate.",
		}, scopeLabels),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    metricsPrefix + "session_duration_seconds",
			Help:    "Duration of closed sessions.",
			Buckets: []float64{.1, 1, 10, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600},
		}, scopeLabels),
		roundTrips: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    metricsPrefix + "ping_rtt_seconds",
			Help:    "Round-trip times of keepalive pings.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, scopeLabels),
		open: prometheus.NewDesc(metricsPrefix+"open_sessions",
			"Open sessions.", scopeLabels, nil),
		messages: prometheus.NewDesc(metricsPrefix+"messages_total",
			"Messages received from and sent to clients.", scopeLabelsAnd("direction"), nil),
		retained: prometheus.NewDesc(metricsPrefix+"retained_configs",
			"Earlier configs that open sessions keep in memory.", nil, nil),
		bytes: prometheus.NewDesc(metricsPrefix+"message_bytes_total",
			"Message payload bytes received from and sent to clients.", scopeLabelsAnd("direction"), nil),
	}
	return m
}

func scopeLabelsAnd(more ...string) []string { return slices.Concat(scopeLabels, more) }

// expect adds the series that the handlers of a config can have, with value 0, so that
// their first event shows as an increase.
func (m *collector) expect(places []routes.Place) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for c, e := range expectationsOf(places) {
		m.accountLocked(c)
		m.expectRefusals(c)
		if e.controls {
			m.handshakes.WithLabelValues(c.labels(handshakeControlled)...)
		}
		for c := range e.scopes(c) {
			m.accountLocked(c).used = true
			m.expectSessions(c)
			if len(e.upstreams) <= maxExpected {
				m.expectEnds(c, e.ends)
			}
			if e.rechecks {
				m.expectRechecks(c)
			}
			if e.rates {
				m.delays.WithLabelValues(c.labels()...)
			}
		}
	}
}

func (m *collector) expectRefusals(c scope) {
	for _, result := range refusals {
		m.handshakes.WithLabelValues(c.labels(result)...)
	}
	m.handshakes.WithLabelValues(c.labels(handshakeNoLogin)...)
	if c.mode == modeEcho {
		m.handshakes.WithLabelValues(c.labels(handshakeFailed)...)
	}
}

// maxExpected is for how many upstreams of a server all series are there from the start. Of
// more, the series of ends and round trips, some 70 for each, come with their first event: a
// scrape would take megabytes.
const maxExpected = 100

func (m *collector) expectSessions(c scope) {
	m.handshakes.WithLabelValues(c.labels(handshakeAccepted)...)
	if c.mode == modePassthrough {
		m.handshakes.WithLabelValues(c.labels(handshakeDeclined)...)
	}
}

func (m *collector) expectRechecks(c scope) {
	for _, result := range []string{recheckAllowed, recheckDenied, recheckFailed} {
		m.rechecks.WithLabelValues(c.labels(result)...)
	}
}

func (m *collector) expectEnds(c scope, ends map[closeLabels]bool) {
	m.durations.WithLabelValues(c.labels()...)
	m.roundTrips.WithLabelValues(c.labels()...)
	for end := range ends {
		m.closes.WithLabelValues(c.labels(end.code, end.cause)...)
	}
}

// keep removes the series of all scopes that are neither in used nor those of open
// sessions: upstreams come and go with reloads.
func (m *collector) keep(used map[scope]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for c, a := range m.accounts {
		if used[c] || a.sessions > 0 {
			continue
		}
		labels := prometheus.Labels{"mode": c.mode, "server": c.server, "upstream": c.upstream}
		m.handshakes.DeletePartialMatch(labels)
		m.closes.DeletePartialMatch(labels)
		m.rechecks.DeletePartialMatch(labels)
		m.delays.DeletePartialMatch(labels)
		m.durations.DeletePartialMatch(labels)
		m.roundTrips.DeletePartialMatch(labels)
		delete(m.accounts, c)
	}
}

// An expectation is what the handlers of one mode on one server can count.
type expectation struct {
	upstreams map[string]bool
	ends      map[closeLabels]bool
	rechecks  bool
	rates     bool
	controls  bool
}

// scopes returns the scopes of the sessions, for that of the refused handshakes.
func (e *expectation) scopes(c scope) iter.Seq[scope] {
	return func(yield func(scope) bool) {
		for upstream := range e.upstreams {
			if !yield(scope{c.mode, c.server, upstream}) {
				return
			}
		}
	}
}

// expectationsOf returns what the handlers of a config can count, by the scope of the
// handshakes that they refuse.
func expectationsOf(places []routes.Place) map[scope]*expectation {
	behind := make(map[string]map[string]bool) // upstreams behind passthrough handlers, by server
	for _, place := range places {
		if proxy, ok := place.Handler.(*reverseproxy.Handler); ok && place.Supervised {
			if behind[place.Server] == nil {
				behind[place.Server] = make(map[string]bool)
			}
			addUpstreamLabels(behind[place.Server], proxy)
		}
	}
	all := make(map[scope]*expectation)
	for _, place := range places {
		h, ok := place.Handler.(*Handler)
		if !ok {
			continue
		}
		c := scope{mode: h.Mode, server: place.Server}
		if all[c] == nil {
			all[c] = &expectation{upstreams: behind[place.Server], ends: make(map[closeLabels]bool)}
			if h.Mode == modeEcho || len(behind[place.Server]) == 0 {
				all[c].upstreams = map[string]bool{"": true}
			}
		}
		all[c].rechecks = all[c].rechecks || h.rechecker != nil
		all[c].rates = all[c].rates || h.MessageRate != nil || h.ByteRate != nil
		all[c].controls = all[c].controls || h.TestControls
		for _, end := range h.endings() {
			all[c].ends[closeLabels{codeLabel(end.code), string(end.by)}] = true
		}
	}
	return all
}

// addUpstreamLabels adds the labels of a proxy's upstreams.
func addUpstreamLabels(labels map[string]bool, proxy *reverseproxy.Handler) {
	v := inventory{upstreams: labels}
	v.addProxy(proxy)
	if v.dynamic {
		labels[dynamicUpstream] = true
	}
}

// scopeOf returns the scope of a session whose socket reverse_proxy has, or has not yet,
// connected to upstream.
func (s *session) scopeOf(upstream string) scope {
	c := scope{s.handler.Mode, s.handshake.server, upstream}
	if upstream != "" && !s.handler.app.expects(c) {
		c.upstream = dynamicUpstream
	}
	return c
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
	if h.closesByRate() {
		list = append(list, ending{by: byServer, code: websocket.ClosePolicyViolation})
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
		if h.TestControls {
			list = append(list, ending{by: byTestControls, code: code})
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

const (
	// handshakeNoLogin is the result of handshakes that expires refuses.
	handshakeNoLogin = "no_login"
	// handshakeControlled is that of handshakes that were refused as the client asked for.
	handshakeControlled = "test_controls"
)

// refused counts a handshake that was refused with err.
func (m *collector) refused(c scope, err error) {
	result := handshakeFailed
	if errors.Is(err, errNoLogin) {
		result = handshakeNoLogin
	} else if refusal, ok := errors.AsType[caddyhttp.HandlerError](err); ok {
		if r, ok := refusals[refusal.StatusCode]; ok {
			result = r
		}
	}
	m.countHandshake(c, result)
}

// countHandshake counts a handshake.
func (m *collector) countHandshake(c scope, result string) {
	m.handshakes.WithLabelValues(c.labels(result)...).Inc()
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
	m.rechecks.Describe(descs)
	m.delays.Describe(descs)
	m.durations.Describe(descs)
	m.roundTrips.Describe(descs)
	descs <- m.open
	descs <- m.messages
	descs <- m.bytes
	descs <- m.retained
}

// Collect implements prometheus.Collector.
func (m *collector) Collect(ch chan<- prometheus.Metric) {
	m.handshakes.Collect(ch)
	m.closes.Collect(ch)
	m.rechecks.Collect(ch)
	m.delays.Collect(ch)
	m.durations.Collect(ch)
	m.roundTrips.Collect(ch)
	ch <- prometheus.MustNewConstMetric(m.retained, prometheus.GaugeValue, float64(sessions.retainedConfigs()))
	for c, t := range m.totals() {
		ch <- prometheus.MustNewConstMetric(m.open, prometheus.GaugeValue, float64(t.open), c.labels()...)
		for direction, n := range map[string]counts{"received": t.received, "sent": t.sent} {
			ch <- prometheus.MustNewConstMetric(m.messages, prometheus.CounterValue, float64(n.messages), c.labels(direction)...)
			ch <- prometheus.MustNewConstMetric(m.bytes, prometheus.CounterValue, float64(n.bytes), c.labels(direction)...)
		}
	}
}

// totals returns the tallies of all scopes that sessions can have or have had.
func (m *collector) totals() map[scope]tally {
	m.mu.Lock()
	var used []*account
	for _, a := range m.accounts {
		if a.used {
			used = append(used, a)
		}
	}
	m.mu.Unlock()
	totals := make(map[scope]tally)
	for a, t := range sessions.tallies(used) {
		sum := totals[a.scope] // one may have been removed and another one opened meanwhile
		sum.merge(t)
		totals[a.scope] = sum
	}
	return totals
}

// register adds the metrics to those of ctx's config, unless that has been done.
func (m *collector) register(ctx caddy.Context) error {
	err := ctx.GetMetricsRegistry().Register(m)
	if _, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		return nil // the admin API has registered it, or the app has
	}
	return err
}

// tallies returns the totals over all sessions of the process by account, at least of those
// accounts that are given. A session that ends meanwhile is counted as open.
func (g *registry) tallies(accounts []*account) map[*account]*tally {
	sums := make(map[*account]*tally) // pointers, so that a session takes one lookup
	g.mu.Lock()
	for _, a := range accounts {
		sum := a.ended
		sums[a] = &sum
	}
	open := slices.Clone(g.ordered)
	g.mu.Unlock()
	for _, s := range withoutGaps(open) {
		sum := sums[s.account]
		if sum == nil {
			sum = new(tally)
			sums[s.account] = sum
		}
		sum.open++
		sum.add(s)
	}
	return sums
}
