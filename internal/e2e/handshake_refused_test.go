package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

func TestHandshakeRefused(t *testing.T) {
	s := wstest.Start(t, `
		websocket {
			allowed_origins https://app.example.com
		}
		handle_errors {
			respond "refused: {err.status_code} {err.message}"
		}`)
	cases := []struct {
		name      string
		protocols []string // nil: all
		header    []string
		status    int
		message   string
		answer    [2]string // a header of the answer
	}{
		{"no version", nil, []string{"Sec-WebSocket-Version", "-"}, 426, "Sec-WebSocket-Version is [], not 13", [2]string{"Sec-WebSocket-Version", "13"}},
		{"old version", nil, []string{"Sec-WebSocket-Version", "8"}, 426, `["8"]`, [2]string{"Sec-WebSocket-Version", "13"}},
		{"two versions", nil, []string{"Sec-WebSocket-Version", "13", "Sec-WebSocket-Version", "8"}, 426, `["13" "8"]`, [2]string{"Sec-WebSocket-Version", "13"}},
		{"list of versions", nil, []string{"Sec-WebSocket-Version", "13, 8"}, 426, `["13, 8"]`, [2]string{"Sec-WebSocket-Version", "13"}},
		{"no key", []string{"http1", "tls"}, []string{"Sec-WebSocket-Key", "-"}, 400, "Sec-WebSocket-Key is []", [2]string{}},
		{"short key", []string{"http1", "tls"}, []string{"Sec-WebSocket-Key", "dGhlIHNhbXBsZQ=="}, 400, `Sec-WebSocket-Key is ["dGhlIHNhbXBsZQ=="], not 16 bytes in base64`, [2]string{}},
		{"key that is no base64", []string{"http1", "tls"}, []string{"Sec-WebSocket-Key", "!!!!IHNhbXBsZSBub25jZQ=="}, 400, "not 16 bytes", [2]string{}},
		{"two keys", []string{"http1", "tls"}, []string{"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}, 400, "Sec-WebSocket-Key", [2]string{}},
		{"key in Connection", []string{"http1", "tls"}, []string{"Connection", "Upgrade, Sec-WebSocket-Key"}, 400, "Connection names Sec-WebSocket-Key", [2]string{}},
		{"version in Connection", []string{"http1", "tls"}, []string{"Connection", "sec-websocket-VERSION ,upgrade"}, 400, "Connection names Sec-WebSocket-Version", [2]string{}},
		{"subprotocols in Connection", []string{"http1", "tls"}, []string{"Connection", "Upgrade", "Connection", ", sec-websocket-protocol"}, 400, "Connection names Sec-WebSocket-Protocol", [2]string{}},
		{"extensions in Connection", []string{"http1", "tls"}, []string{"Connection", "\", Sec-WebSocket-Extensions, \", upgrade"}, 400, "Connection names Sec-WebSocket-Extensions", [2]string{}},
		{"origin in Connection", []string{"http1", "tls"}, []string{"Connection", "upgrade,origin"}, 400, "Connection names Origin", [2]string{}},
		{"host in Connection", []string{"http1", "tls"}, []string{"Connection", "Host, upgrade"}, 400, "Connection names Host", [2]string{}},
		{"body", []string{"http1", "tls"}, []string{"Content-Length", "1"}, 400, "has a body", [2]string{}},
		{"chunked body", []string{"http1", "tls"}, []string{"Transfer-Encoding", "chunked"}, 400, "has a body", [2]string{}},
		{"subprotocol that is no token", nil, []string{"Sec-WebSocket-Protocol", "a b"}, 400, `"a b" is not a token`, [2]string{}},
		{"repeated subprotocol", nil, []string{"Sec-WebSocket-Protocol", "a", "Sec-WebSocket-Protocol", "b, a"}, 400, `"a" is given more than once`, [2]string{}},
		{"extension that is none", nil, []string{"Sec-WebSocket-Extensions", "permessage-deflate; =1"}, 400, "Sec-WebSocket-Extensions: no token", [2]string{}},
		{"origin", nil, []string{"Origin", "https://evil.example.com"}, 403, `origin ["https://evil.example.com"] is not allowed`, [2]string{}},
		{"two origins", nil, []string{"Origin", "https://app.example.com", "Origin", "https://app.example.com"}, 403, "is not allowed", [2]string{}},
		{"origin of the site itself, without self", nil, []string{"Origin", "https://" + s.Secure}, 403, "is not allowed", [2]string{}},
	}
	for _, c := range cases {
		for _, protocol := range wstest.Protocols {
			if c.protocols != nil && !slices.Contains(c.protocols, protocol) {
				continue
			}
			t.Run(c.name+"/"+protocol, func(t *testing.T) {
				p := s.TryDial(t, protocol, "/", c.header...)
				if p.Response.StatusCode != c.status {
					t.Errorf("status is %d, want %d", p.Response.StatusCode, c.status)
				}
				if name, want := c.answer[0], c.answer[1]; name != "" && p.Response.Header.Get(name) != want {
					t.Errorf("%s is %q, want %q", name, p.Response.Header.Get(name), want)
				}
				want := fmt.Sprintf("refused: %d refusing handshake: ", c.status)
				if body := p.Body(); !strings.HasPrefix(body, want) || !strings.Contains(body, c.message) {
					t.Errorf("body is %q, want %q and %q", body, want, c.message)
				}
			})
		}
	}
}

func TestHandshakeMethodAndVersion(t *testing.T) {
	s := wstest.Start(t, "websocket /ws\nrespond plain")
	const fields = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	for request, want := range map[string]string{
		"POST /ws HTTP/1.1\r\nHost: x\r\n" + fields:                                                         "HTTP/1.1 405 ",
		"OPTIONS /ws HTTP/1.1\r\nHost: x\r\n" + fields:                                                      "HTTP/1.1 405 ",
		"GET /ws HTTP/1.0\r\nHost: x\r\n" + fields:                                                          "HTTP/1.0 400 ",
		"GET /ws HTTP/1.1\r\n" + fields:                                                                     "HTTP/1.1 400 ",
		"GET /other HTTP/1.1\r\nHost: x\r\n" + fields:                                                       "HTTP/1.1 200 ",
		"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n":                                                               "HTTP/1.1 200 ",
		"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n":                                         "HTTP/1.1 200 ",
		"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n\r\n":                                        "HTTP/1.1 200 ",
		"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: h2c, WebSocket\r\nConnection: keep-alive, Upgrade\r\n\r\n": "HTTP/1.1 426 ",
	} {
		p := s.SendRequest(t, request)
		if got := p.ReadLine(); !strings.HasPrefix(got, want) {
			t.Errorf("%q: got %q, want %q", request, got, want)
		}
	}
}

// What is refused doesn't get to the handler behind.
func TestRefusedBeforeUpstream(t *testing.T) {
	u := wstest.ListenUpstream(t)
	reached := make(chan struct{}, 100)
	go func() {
		for {
			conn, err := u.Accept()
			if err != nil {
				return
			}
			conn.Close()
			reached <- struct{}{}
		}
	}()
	s := wstest.Start(t, "websocket passthrough {\nallowed_origins https://good.example\nrequire_origin\nmax_connections 1\n}\nrespond /no-socket 204\nreverse_proxy "+u.Addr().String())
	good := []string{"Origin", "https://good.example"}
	for _, protocol := range wstest.Protocols {
		for name, c := range map[string]struct {
			status int
			header []string
		}{
			"no origin":      {403, nil},
			"another origin": {403, []string{"Origin", "https://bad.example"}},
			"two origins":    {403, append(good, good...)},
			"two versions":   {400, append(good, "Sec-WebSocket-Version", "13", "Sec-WebSocket-Version", "13")},
			"two keys":       {400, append(good, "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")},
		} {
			if p := s.TryDial(t, protocol, "/", c.header...); p.Response.StatusCode != c.status {
				t.Errorf("%s, %s: status %d, want %d", protocol, name, p.Response.StatusCode, c.status)
			}
		}
	}
	for name, request := range map[string]string{
		"HTTP/1.0":     "GET / HTTP/1.0\r\nHost: x\r\nOrigin: https://good.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
		"a body":       "GET / HTTP/1.1\r\nHost: x\r\nOrigin: https://good.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: 30\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
		"chunked body": "GET / HTTP/1.1\r\nHost: x\r\nOrigin: https://good.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"no origin":    "GET / HTTP/1.1\r\nHost: x\r\nOrigin: https://good.example\r\nConnection: Upgrade, Origin\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
		"POST":         "POST / HTTP/1.1\r\nHost: x\r\nOrigin: https://good.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
	} {
		if line := s.SendRequest(t, request).ReadLine(); !strings.Contains(line, " 40") {
			t.Errorf("%s: %s", name, line)
		}
	}
	if len(reached) > 0 {
		t.Errorf("%d refused handshakes got to the upstream", len(reached))
	}
	s.TryDial(t, "http1", "/", good...) // the test can tell: this one does
	<-reached
}
