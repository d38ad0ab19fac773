package caddywebsocket

import (
	"net/http"
	"strings"
	"testing"
)

func TestClientNetwork(t *testing.T) {
	for ip, want := range map[string]string{
		"192.0.2.1":                "192.0.2.1",
		"::ffff:192.0.2.1":         "192.0.2.1",
		"::ffff:192.0.2.1%eth0":    "192.0.2.1",
		"::ffff:c000:201":          "192.0.2.1",
		"2001:db8::1":              "2001:db8::/64",
		"2001:db8:0:0:ffff::":      "2001:db8::/64",
		"2001:DB8:0:1::1":          "2001:db8:0:1::/64",
		"2001:db8:1::1":            "2001:db8:1::/64",
		"fe80::1%eth0":             "fe80::/64",
		"fe80::2":                  "fe80::/64",
		"::1":                      "::/64",
		"::192.0.2.1":              "::/64",
		"":                         "",
		"@":                        "@",
		"192.0.2.1:80":             "192.0.2.1:80",
		"2001:db8::1, 2001:db8::2": "2001:db8::1, 2001:db8::2",
	} {
		if got := clientNetwork(ip); got != want {
			t.Errorf("%q: got %q, want %q", ip, got, want)
		}
	}
}

// A client can't get around the limit with the other addresses of its network.
func TestLimitByNetwork(t *testing.T) {
	l := newLimiter(0, 2)
	take := func(ip, refusedAs string) {
		t.Helper()
		h := make(http.Header)
		switch err := l.acquire(h, ip); {
		case refusedAs == "" && err != nil:
			t.Errorf("%s: %v", ip, err)
		case refusedAs != "" && (err == nil || !strings.Contains(err.Error(), "2 sockets of client "+refusedAs+" are open")):
			t.Errorf("%s: got %v, want a refusal of %s", ip, err, refusedAs)
		}
	}
	take("2001:db8::1", "")
	take("2001:db8::2%eth0", "")
	take("2001:db8::ffff:3", "2001:db8::/64")
	take("2001:db8:0:1::1", "")
	take("192.0.2.1", "")
	take("::ffff:192.0.2.1", "")
	take("192.0.2.1", "192.0.2.1")
	take("192.0.2.2", "")
	l.release("2001:db8::9")
	take("2001:db8::3", "")
	for _, ip := range []string{"2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "192.0.2.1", "192.0.2.1", "192.0.2.2"} {
		l.release(ip)
	}
	if len(l.counts.clients) != 0 || l.counts.open != 0 {
		t.Errorf("%d sockets of %v are left", l.counts.open, l.counts.clients)
	}
}

// The address is that of {client_ip}, behind a trusted proxy as well.
func TestMaxConnectionsByNetwork(t *testing.T) {
	s := startGlobal(t, "servers {\ntrusted_proxies static 127.0.0.1/8\n}", "websocket {\nmax_connections 10 1\n}")
	for _, protocol := range protocols {
		closed := len(s.logs.entries("socket closed"))
		p := s.dial(t, protocol, "/", "X-Forwarded-For", "2001:db8::1")
		for from, want := range map[string]int{"2001:db8::2": 503, "2001:db8:0:1::1": 0, "192.0.2.1": 0} {
			q := s.attempt(t, protocol, "/", "X-Forwarded-For", from)
			if refused := q.res.StatusCode == 503; refused != (want == 503) {
				t.Errorf("%s: %s gets %d", protocol, from, q.res.StatusCode)
			} else if !refused {
				q.bye()
			}
		}
		p.bye()
		s.logs.await(t, "socket closed", closed+3)
	}
}
