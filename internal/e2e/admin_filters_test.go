package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

func TestAdminFilters(t *testing.T) {
	u := wstest.ListenUpstream(t)
	p := wstest.StartProcess(t, "", "websocket /echo\nwebsocket /app passthrough {\nallowed_origins *\n}\nrespond /no-socket 204\nreverse_proxy "+u.Addr().String())
	_, plain, _ := net.SplitHostPort(p.Plain)
	_, secure, _ := net.SplitHostPort(p.Secure)
	for _, protocol := range wstest.Protocols {
		p.Dial(t, protocol, "/echo").Echo(ws.OpText, "hello")
		apps := make(chan *wstest.Peer)
		go func() { apps <- u.AcceptSocket() }()
		client := p.Dial(t, protocol, "/app")
		app := <-apps
		client.Send(ws.OpText, "hello")
		app.ExpectMasked(ws.OpText, "hello")
	}
	var server string
	for _, s := range p.Sessions(t, "?mode=passthrough") {
		if s["upstream"] != u.Addr().String() {
			t.Errorf("the upstream is %v, want %s", s["upstream"], u.Addr())
		}
		server = fmt.Sprint(s["server"])
	}
	if server != "secure" {
		t.Errorf("the server is %q, want secure", server)
	}
	for query, want := range map[string]int{
		"?host=127.0.0.1": 8, "?host=127.0.0.1:" + plain: 2, "?host=127.0.0.1:" + secure: 6, "?host=127.0.0.1:1": 0,
		"?client_ip=127.0.0.1": 8, "?client_ip=::ffff:127.0.0.1": 8, "?client_ip=127.0.0.2": 0,
		"?server=plain": 2, "?server=secure": 6,
		"?upstream=" + u.Addr().String(): 4, "?path=/app&server=plain": 1,
	} {
		if got := p.Sessions(t, query); len(got) != want {
			t.Errorf("%s: %d sessions, want %d", query, len(got), want)
		}
	}
	for filter, rule := range map[string]string{
		"mode=bogus":             "mode 'bogus': it must be echo or passthrough",
		"mode=Echo":              "mode 'Echo': it must be echo or passthrough",
		"client_ip=localhost":    "client_ip 'localhost': it must be an IP address",
		"client_ip=127.0.0.1:80": "client_ip '127.0.0.1:80': it must be an IP address",
		"host=https://localhost": "host 'https://localhost': it must be a host",
		"path=app":               "path 'app': it must begin with a slash",
		"upstream=http://a:1":    "upstream 'http://a:1': it must be an address",
		"upstream=127.0.0.1:1":   "upstream '127.0.0.1:1': it must be an upstream of the config: " + u.Addr().String(),
		"server=other":           "server 'other': it must be a server of the config: plain, secure",
	} {
		for _, method := range []string{http.MethodGet, http.MethodDelete} {
			status, answer, err := p.Call(method, "/websocket/sessions?"+filter, nil)
			if err != nil || status != http.StatusBadRequest || !strings.Contains(answer, rule) {
				t.Errorf("%s %s: status %d, %v: %s", method, filter, status, err, answer)
			}
		}
	}
	p.CloseSessions(t, "?mode=echo&host="+url.QueryEscape("127.0.0.1:"+secure), 3)
}
