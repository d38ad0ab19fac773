package e2e

import (
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// Every series is there before its first event, or rates would miss that.
func TestMetricsStartAtZero(t *testing.T) {
	u := wstest.ListenUpstream(t)
	site := "metrics /metrics\nwebsocket /echo {\nclose_code lifetime 4321\n}\nwebsocket /brief {\nmax_lifetime 50ms\nclose_code lifetime 1001\n}\n" +
		"websocket passthrough {\nallowed_origins *\nmax_message_size 1KiB\n}\nrespond /no-socket 204\nreverse_proxy " + u.Addr().String()
	p := wstest.StartProcess(t, "", site)
	before := scraped(t, &p.Server)
	for name, value := range before {
		if value != 0 {
			t.Errorf("%s starts at %v", name, value)
		}
	}
	end := func(client, app *wstest.Peer) {
		client.Conn.Close()
		if app != nil {
			app.Conn.Close()
		}
	}
	for _, protocol := range wstest.Protocols {
		for _, payload := range []string{"", "\x03", "\x03\xe7", "\x03\xe8", "\x03\xe9", "\x03\xee", "\x03\xf7", "\x0f\xa0"} {
			client := p.Dial(t, protocol, "/echo")
			client.Send(ws.OpClose, payload)
			client.ReadFrame()
			end(client, nil)
			client, app := u.Tunnel(&p.Server, protocol)
			app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpClose), payload))
			client.Expect(ws.OpClose, payload)
			end(client, app)
		}
		end(p.Dial(t, protocol, "/echo"), nil)
		brief := p.Dial(t, protocol, "/brief")
		brief.ExpectClose(1001, "")
		end(brief, nil)
		client, app := u.Tunnel(&p.Server, protocol)
		client.Send(ws.OpBinary, wstest.Letters(2000))
		client.ExpectClose(1009, "")
		end(client, app)
		client, app = u.Tunnel(&p.Server, protocol)
		app.Conn.Close()
		client.ExpectClose(1012, "")
		end(client, app)
		client, app = u.Tunnel(&p.Server, protocol)
		client.Send(ws.OpText, "hello")
		app.ExpectMasked(ws.OpText, "hello")
		for len(p.Sessions(t, "?mode=passthrough")) > 1 { // the one before is about to end
		}
		p.CloseSessions(t, "?mode=passthrough&code=4000", 1)
		client.ExpectClose(4000, "")
		end(client, app)
		p.TryDial(t, protocol, "/echo", "Sec-WebSocket-Version", "7")
	}
	for len(p.Sessions(t, "")) > 0 { // until the ends have been counted
	}
	counted := 0
	for name, value := range scraped(t, &p.Server) {
		if _, ok := before[name]; !ok {
			t.Errorf("%s wasn't there before its first event", name)
		}
		if strings.HasPrefix(name, "caddy_websocket_"+"closes_total") && value > 0 {
			counted++
		}
	}
	if counted < 12 {
		t.Errorf("%d kinds of ends were counted", counted)
	}
}
