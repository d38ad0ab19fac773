package caddywebsocket

import (
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// Every series is there before its first event, or rates would miss that.
func TestMetricsStartAtZero(t *testing.T) {
	u := listenUpstream(t)
	site := "metrics /metrics\nwebsocket /echo {\nclose_code lifetime 4321\n}\nwebsocket /brief {\nmax_lifetime 50ms\nclose_code lifetime 1001\n}\n" +
		"websocket passthrough {\nallowed_origins *\nmax_message_size 1KiB\n}\nrespond /no-socket 204\nreverse_proxy " + u.Addr().String()
	p := startProcess(t, "", site)
	before := p.scraped(t)
	for name, value := range before {
		if value != 0 {
			t.Errorf("%s starts at %v", name, value)
		}
	}
	end := func(client, app *peer) {
		client.rw.Close()
		if app != nil {
			app.rw.Close()
		}
	}
	for _, protocol := range protocols {
		for _, payload := range []string{"", "\x03", "\x03\xe7", "\x03\xe8", "\x03\xe9", "\x03\xee", "\x03\xf7", "\x0f\xa0"} {
			client := p.dial(t, protocol, "/echo")
			client.send(ws.OpClose, payload)
			client.read()
			end(client, nil)
			client, app := u.tunnel(&p.server, protocol)
			app.write(serverFrame(ws.FinBit|byte(ws.OpClose), payload))
			client.expect(ws.OpClose, payload)
			end(client, app)
		}
		end(p.dial(t, protocol, "/echo"), nil)
		brief := p.dial(t, protocol, "/brief")
		brief.expectClose(1001, "")
		end(brief, nil)
		client, app := u.tunnel(&p.server, protocol)
		client.send(ws.OpBinary, letters(2000))
		client.expectClose(1009, "")
		end(client, app)
		client, app = u.tunnel(&p.server, protocol)
		app.rw.Close()
		client.expectClose(1012, "")
		end(client, app)
		client, app = u.tunnel(&p.server, protocol)
		client.send(ws.OpText, "hello")
		app.expectMasked(ws.OpText, "hello")
		p.closes(t, "?mode=passthrough&code=4000", 1)
		client.expectClose(4000, "")
		end(client, app)
		p.attempt(t, protocol, "/echo", "Sec-WebSocket-Version", "7")
	}
	for len(p.listed(t, "")) > 0 { // until the ends have been counted
	}
	counted := 0
	for name, value := range p.scraped(t) {
		if _, ok := before[name]; !ok {
			t.Errorf("%s wasn't there before its first event", name)
		}
		if strings.HasPrefix(name, metricsPrefix+"closes_total") && value > 0 {
			counted++
		}
	}
	if counted < 12 {
		t.Errorf("%d kinds of ends were counted", counted)
	}
}

// The labels of a handler's ends are few.
func TestEndingsAreBounded(t *testing.T) {
	for _, mode := range []string{modeEcho, modePassthrough} {
		h := &Handler{Mode: mode, CloseCode: map[string]int{"lifetime": 4000, "admin": closeNone}}
		series := make(map[[2]string]bool)
		for _, end := range h.endings() {
			series[[2]string{codeLabel(end.code), string(end.by)}] = true
		}
		if len(series) > 60 {
			t.Errorf("%s: %d series", mode, len(series))
		}
		for _, want := range [][2]string{{"other", "lifetime"}, {"1006", "admin"}, {"1012", "shutdown"}, {"1006", "write_timeout"}, {"other", "client"}, {"1005", "client"}} {
			if !series[want] {
				t.Errorf("%s: %v is missing", mode, want)
			}
		}
	}
}
