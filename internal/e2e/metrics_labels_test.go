package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// seriesOf returns how many samples have a label.
func seriesOf(t *testing.T, s *wstest.Server, label, value string) (n int) {
	t.Helper()
	for name := range scraped(t, s) {
		if strings.Contains(name, fmt.Sprintf("%s=%q", label, value)) {
			n++
		}
	}
	return n
}

// The series of an upstream come with the config that names it, and go with the last
// socket when no config does.
func TestMetricsOfUpstreamsThatGo(t *testing.T) {
	first, second := wstest.ListenUpstream(t), wstest.ListenUpstream(t)
	site := func(u *wstest.Upstream) string {
		return "metrics /metrics\nwebsocket passthrough {\nallowed_origins *\nclose_delay 1h\n}\nreverse_proxy " + u.Addr().String()
	}
	s := wstest.Start(t, site(first))
	if n := seriesOf(t, s, "upstream", first.Addr().String()); n < 40 {
		t.Errorf("%d series before the first socket", n)
	}
	client, app := first.Tunnel(s, "http1")
	client.Send(ws.OpText, "hello")
	app.ExpectMasked(ws.OpText, "hello")
	s.Reload(t, "", site(second))
	s.Reload(t, "", site(second)+"\nheader X-Config new")
	if n := seriesOf(t, s, "upstream", first.Addr().String()); n < 40 {
		t.Errorf("%d series while a socket is open", n)
	}
	if n := scraped(t, s)[metricNames+"retained_configs"]; n != 1 {
		t.Errorf("%v configs are retained, want 1", n)
	}
	client.Conn.Close()
	app.Conn.Close()
	for len(wstest.Sessions(t, "")) > 0 {
	}
	s.Reload(t, "", site(second))
	if n := seriesOf(t, s, "upstream", first.Addr().String()); n != 0 {
		t.Errorf("%d series are left", n)
	}
	if n := seriesOf(t, s, "upstream", second.Addr().String()); n < 40 {
		t.Errorf("%d series of the new upstream", n)
	}
	if n := scraped(t, s)[metricNames+"retained_configs"]; n != 0 {
		t.Errorf("%v configs are retained, want none", n)
	}
}

// Upstreams that the config doesn't name share a label.
func TestMetricsOfDynamicUpstreams(t *testing.T) {
	u := wstest.ListenUpstream(t)
	s := wstest.Start(t, "metrics /metrics\nwebsocket passthrough {\nallowed_origins *\n}\nreverse_proxy {http.request.header.X-Upstream}")
	client, app := u.Tunnel(s, "http1", "X-Upstream", u.Addr().String())
	client.Send(ws.OpText, "hello")
	app.ExpectMasked(ws.OpText, "hello")
	if n := seriesOf(t, s, "upstream", u.Addr().String()); n != 0 {
		t.Errorf("%d series have the address that the client named", n)
	}
	if n := scraped(t, s)[metricNames+`open_sessions{mode="passthrough",server="plain",upstream="dynamic"}`]; n != 1 {
		t.Errorf("%v open sessions, want 1", n)
	}
}

// With very many upstreams, only some of their series are there from the start.
func TestMetricsOfManyUpstreams(t *testing.T) {
	u := wstest.ListenUpstream(t)
	site := "metrics /metrics\nwebsocket passthrough {\nallowed_origins *\n}\nreverse_proxy / " + u.Addr().String() + "\n"
	for port := range 100 {
		site += fmt.Sprintf("reverse_proxy /%d 127.0.0.1:%d\n", port, 10_000+port)
	}
	s := wstest.Start(t, site)
	const before = 7
	if n := seriesOf(t, s, "upstream", u.Addr().String()); n != 2*before { // on two servers
		t.Errorf("%d series before the first socket, want %d", n, 2*before)
	}
	client, app := u.Tunnel(s, "http1")
	app.Conn.Close()
	client.ExpectClose(1012, "")
	client.AnswerClose(1012)
	client.Conn.Close()
	s.Logs.Await(t, "socket closed", 1)
	if n := scraped(t, s)[fmt.Sprintf(metricNames+`closes_total{cause="upstream",code="1012",mode="passthrough",server="plain",upstream="%s"}`, u.Addr())]; n != 1 {
		t.Errorf("%v closes, want 1", n)
	}
}
