package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// A fragile is a site whose application is out of use for all when one request
// of somebody's counts as its failure.
func fragile(t *testing.T, directive string) *wstest.Server {
	t.Helper()
	return wstest.Start(t, directive+"\nreverse_proxy "+wstest.UpgradingUpstream(t, nil)+" {\nfail_duration 1h\n}")
}

// expectInService makes sure that the application is in use for others.
func expectInService(t *testing.T, s *wstest.Server, after string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: wstest.InsecureTLS(), DisableKeepAlives: true}}
	res, err := client.Get("https://" + s.Secure)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("after %s: the next user gets %d", after, res.StatusCode)
	}
}

// connectTests are requests that no handler of Caddy's can serve.
var connectTests = []struct {
	name, method, protocol string
	ended                  bool
	more                   []string
	// The answers of HTTP/2 and HTTP/3: at the handler, and at a site without it on
	// HTTP/2.
	http2, http3, elsewhere string
	message                 string
}{
	{"another protocol", "CONNECT", "x", false, nil, "501", "501", "501", `protocol is "x", not websocket`},
	{"another protocol, ended", "CONNECT", "connect-udp", true, nil, "501", "501", "501", "not websocket"},
	{"another spelling", "CONNECT", "WebSocket", false, nil, "501", "501", "501", "not websocket"},
	// quic-go resets these.
	{"another method", "GET", "websocket", true, nil, "400", "", "400", "method is GET, not CONNECT"},
	{"another method and protocol", "POST", "x", false, nil, "400", "", "400", "method is POST"},

	{"a length of 0", "CONNECT", "websocket", false, []string{"content-length", "0"}, "400", "400", "200", "has a body or a length"},
	{"a length", "CONNECT", "websocket", false, []string{"content-length", "5"}, "400", "400", "200", "has a body or a length"},
	{"a length that is none", "CONNECT", "websocket", false, []string{"content-length", "many"}, "400", "", "200", "has a body or a length"},
	// On HTTP/3 that shows only when the stream is read.
	{"an ended stream", "CONNECT", "websocket", true, nil, "400", "200", "200", "has a body or a length"},
	{"an ended stream and a length", "CONNECT", "websocket", true, []string{"content-length", "0"}, "400", "400", "200", "has a body or a length"},
}

// None of them counts as a failure of the application's.
func TestConnectRefused(t *testing.T) {
	for name, directive := range map[string]string{
		"passthrough": "websocket passthrough {\nallowed_origins *\n}",
		"echo":        "websocket",
	} {
		t.Run(name, func(t *testing.T) {
			s := wstest.Start(t, directive+"\nhandle_errors {\nrespond \"{err.status_code} {err.message}\"\n}\nrespond /no-socket 204\n")
			for _, test := range connectTests {
				fields := wstest.ConnectFields(s, test.method, test.protocol, "/", test.more...)
				for protocol, want := range map[string]string{"http2": test.http2, "http3": test.http3} {
					if want == "" {
						continue
					}
					status, body := s.Ask(t, protocol, test.ended, fields...)
					if status != want {
						t.Errorf("%s, %s: got %s, want %s", protocol, test.name, status, want)
					}
					// What is no handshake doesn't get as far as handle_errors on HTTP/2.
					rendered := protocol == "http3" || test.protocol == "websocket" && test.method == "CONNECT"
					if rendered && want != "200" && !strings.Contains(body, "refusing handshake: ") {
						t.Errorf("%s, %s: handle_errors gave %q", protocol, test.name, body)
					}
					if rendered && want != "200" && !strings.Contains(body, test.message) {
						t.Errorf("%s, %s: body %q, want %q", protocol, test.name, body, test.message)
					}
				}
			}
		})
	}
}

// One request doesn't put the application out of use, neither at the handler nor
// at a site of its server that doesn't have it.
func TestConnectCountsNoFailure(t *testing.T) {
	for _, test := range connectTests {
		t.Run(test.name, func(t *testing.T) {
			s := fragile(t, "websocket /ws passthrough {\nallowed_origins *\n}\nrespond /no-socket 204")
			for path, want := range map[string]string{"/ws": test.http2, "/elsewhere": test.elsewhere} {
				fields := wstest.ConnectFields(s, test.method, test.protocol, path, test.more...)
				if status, _ := s.Ask(t, "http2", test.ended, fields...); status != want {
					t.Errorf("http2, %s: got %s, want %s", path, status, want)
				}
				expectInService(t, s, "http2, "+path)
			}
			if test.http3 == "" {
				return
			}
			fields := wstest.ConnectFields(s, test.method, test.protocol, "/ws", test.more...)
			if status, _ := s.Ask(t, "http3", test.ended, fields...); status != test.http3 {
				t.Errorf("http3: got %s, want %s", status, test.http3)
			}
			expectInService(t, s, "http3")
		})
	}
}

// A server of the config that has no handler of ours at all is guarded, too,
// also by one that is in a route of its own on another server.
func TestConnectOnOtherServers(t *testing.T) {
	u := wstest.UpgradingUpstream(t, nil)
	s := wstest.Start(t, "reverse_proxy "+u+" {\nfail_duration 1h\n}")
	for name, site := range map[string]string{
		"a site":       "websocket passthrough {\nallowed_origins *\n}",
		"two handlers": "websocket /a\nwebsocket /b",
		"in a route":   "route /x {\nhandle_path /y/* {\nwebsocket\n}\n}",
		"an error":     "handle_errors {\nwebsocket\n}",
	} {
		t.Run(name, func(t *testing.T) {
			s.Load(t, differentSites(t, s, site, "reverse_proxy "+u+" {\nfail_duration 1h\n}"))
			for _, test := range connectTests {
				fields := wstest.ConnectFields(s, test.method, test.protocol, "/", test.more...)
				if status, _ := s.Ask(t, "http2", test.ended, fields...); status != test.elsewhere {
					t.Errorf("%s: got %s, want %s", test.name, status, test.elsewhere)
				}
				expectInService(t, s, test.name)
			}
		})
	}
}

// differentSites is the JSON of a config with one site on the plain server and
// another on the secure one.
func differentSites(t *testing.T, s *wstest.Server, plain, secure string) []byte {
	t.Helper()
	type object = map[string]any
	var onPlain, onSecure object
	for site, cfg := range map[string]*object{plain: &onPlain, secure: &onSecure} {
		if err := json.Unmarshal(wstest.Config(t, s.LogName, "", site), cfg); err != nil {
			t.Fatal(err)
		}
	}
	servers := func(cfg object) object {
		return cfg["apps"].(object)["http"].(object)["servers"].(object)
	}
	servers(onSecure)["plain"] = servers(onPlain)["plain"]
	return wstest.JSON(onSecure)
}

// Where no handler is loaded, the matcher in the documentation does.
func TestConnectWithoutHandler(t *testing.T) {
	readme, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	directives := regexp.MustCompile(`(?s)\n\t@malformed .*\n\terror @malformed \d+\n`).FindString(string(readme))
	for _, test := range connectTests {
		s := fragile(t, directives)
		s.Ask(t, "http2", test.ended, wstest.ConnectFields(s, test.method, test.protocol, "/", test.more...)...)
		expectInService(t, s, test.name)
		if status, _ := s.Ask(t, "http2", false, wstest.ConnectFields(s, "CONNECT", "websocket", "/")...); status != "200" {
			t.Errorf("a handshake gets %s", status)
		}
	}
}
