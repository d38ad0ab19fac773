package caddywebsocket

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestHandshakeRefused(t *testing.T) {
	s := start(t, `
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
		{"body", []string{"http1", "tls"}, []string{"Content-Length", "1"}, 400, "has a body", [2]string{}},
		{"chunked body", []string{"http1", "tls"}, []string{"Transfer-Encoding", "chunked"}, 400, "has a body", [2]string{}},
		{"empty subprotocol", nil, []string{"Sec-WebSocket-Protocol", "a,,b"}, 400, `Sec-WebSocket-Protocol: "" is not a token`, [2]string{}},
		{"no subprotocol", nil, []string{"Sec-WebSocket-Protocol", ""}, 400, "is not a token", [2]string{}},
		{"subprotocol that is no token", nil, []string{"Sec-WebSocket-Protocol", "a b"}, 400, `"a b" is not a token`, [2]string{}},
		{"subprotocol that stands twice", nil, []string{"Sec-WebSocket-Protocol", "a", "Sec-WebSocket-Protocol", "b, a"}, 400, `"a" stands twice`, [2]string{}},
		{"extension that is none", nil, []string{"Sec-WebSocket-Extensions", "permessage-deflate; =1"}, 400, "Sec-WebSocket-Extensions: no token", [2]string{}},
		{"origin", nil, []string{"Origin", "https://evil.example.com"}, 403, `origin ["https://evil.example.com"] is not allowed`, [2]string{}},
		{"two origins", nil, []string{"Origin", "https://app.example.com", "Origin", "https://app.example.com"}, 403, "is not allowed", [2]string{}},
		{"origin of the site itself, without self", nil, []string{"Origin", "https://" + s.secure}, 403, "is not allowed", [2]string{}},
	}
	for _, c := range cases {
		for _, protocol := range protocols {
			if c.protocols != nil && !slices.Contains(c.protocols, protocol) {
				continue
			}
			t.Run(c.name+"/"+protocol, func(t *testing.T) {
				p := s.attempt(t, protocol, "/", c.header...)
				if p.res.StatusCode != c.status {
					t.Errorf("status is %d, want %d", p.res.StatusCode, c.status)
				}
				if name, want := c.answer[0], c.answer[1]; name != "" && p.res.Header.Get(name) != want {
					t.Errorf("%s is %q, want %q", name, p.res.Header.Get(name), want)
				}
				want := fmt.Sprintf("refused: %d refusing handshake: ", c.status)
				if body := p.body(); !strings.HasPrefix(body, want) || !strings.Contains(body, c.message) {
					t.Errorf("body is %q, want %q and %q", body, want, c.message)
				}
			})
		}
	}
}

func TestHandshakeMethodAndVersion(t *testing.T) {
	s := start(t, "websocket /ws\nrespond plain")
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
		p := s.raw(t, request)
		if got := p.line(); !strings.HasPrefix(got, want) {
			t.Errorf("%q: got %q, want %q", request, got, want)
		}
	}
}

// What a client sends before it has the answer to its handshake isn't lost.
func TestEarlyFrames(t *testing.T) {
	for _, site := range []string{"websocket", "log\nwebsocket"} {
		s := start(t, site)
		p := s.raw(t, "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"+
			string(clientFrame(finBit|byte(opText), []byte("early"))))
		for p.line() != "\r\n" {
		}
		p.expect(opText, "early")
		p.echo(opText, "later")
		p.bye()
	}
}

func TestSubprotocols(t *testing.T) {
	onEveryProtocol(t, "websocket {\nsubprotocols v2.chat v1.chat\n}", func(t *testing.T, s *server, protocol string) {
		for _, c := range []struct {
			offered []string
			want    string
		}{
			{nil, ""},
			{[]string{"other"}, ""},
			{[]string{"v1.chat"}, "v1.chat"},
			{[]string{"v1.chat, v2.chat"}, "v2.chat"},
			{[]string{"other", "v1.chat,v2.chat"}, "v2.chat"},
			{[]string{"V1.CHAT"}, ""},
		} {
			var header []string
			for _, offered := range c.offered {
				header = append(header, "Sec-WebSocket-Protocol", offered)
			}
			p := s.dial(t, protocol, "/", header...)
			got, ok := p.res.Header["Sec-Websocket-Protocol"]
			if ok != (c.want != "") || ok && (len(got) != 1 || got[0] != c.want) {
				t.Errorf("offered %q: got %q, want %q", c.offered, got, c.want)
			}
			p.echo(opText, "hello")
			p.bye()
		}
	})
}

// The socket works, with its status in the access log and with the headers of
// the site, whatever else the site does.
func TestBehindEveryWrapper(t *testing.T) {
	sites := map[string]string{
		"bare":            "websocket /ws",
		"log":             "log\nwebsocket /ws",
		"header":          "header X-Test on\nwebsocket /ws",
		"deferred header": "header >X-Test on\nheader -Server\nwebsocket /ws",
		"encode":          "encode\nwebsocket /ws",
		"encode in front": "route {\nencode {\nminimum_length 1\nmatch status 101 200\n}\nwebsocket /ws\n}",
		"templates":       "templates\nwebsocket /ws",
		"metrics":         "metrics /metrics\nwebsocket /ws",
		"basic_auth":      "basic_auth {\nuser $2a$04$nsxf2hnszCTTPrFNd5wRd.czUENmL/Pv30Ea1HMKOWnMWdGaVl3de\n}\nwebsocket /ws",
		"handle":          "handle /ws {\nwebsocket\n}\nhandle {\nrespond other\n}",
		"beside handle":   "handle {\nrespond other\n}\nwebsocket /ws",
		"route":           "route /ws {\nwebsocket\n}",
		"respond":         "websocket /ws\nrespond other",
		"timeouts":        "timeouts {\nread_timeout 1h\nwrite_timeout 1h\n}\nwebsocket /ws",
		"intercept":       "intercept {\n@error status 4xx 5xx\nhandle_response @error {\nrespond error\n}\n}\nwebsocket /ws\nrespond other",
		"all":             "log\nheader >X-Test on\nencode\ntemplates\nhandle {\nrespond other\n}\nwebsocket /ws",
	}
	for _, name := range slices.Sorted(maps.Keys(sites)) {
		t.Run(name, func(t *testing.T) {
			s := startGlobal(t, "metrics", sites[name])
			for i, protocol := range protocols {
				p := s.dial(t, protocol, "/ws", "Accept-Encoding", "gzip, zstd", "Authorization", "Basic dXNlcjpoaWNjdXA=")
				if strings.Contains(sites[name], "X-Test") && p.res.Header.Get("X-Test") != "on" {
					t.Errorf("%s: no X-Test in %v", protocol, p.res.Header)
				}
				if strings.Contains(sites[name], "-Server") && p.res.Header.Get("Server") != "" {
					t.Errorf("%s: a Server header", protocol)
				}
				if encoding := p.res.Header.Get("Content-Encoding"); encoding != "" {
					t.Errorf("%s: Content-Encoding is %q", protocol, encoding)
				}
				p.echo(opText, "hello")
				p.echo(opText, letters(100_000)[:maxEchoFrame])
				p.bye()
				if strings.Contains(sites[name], "log\n") {
					checkAccessLog(t, s, p, i)
				}
			}
		})
	}
}

// checkAccessLog checks the line of the socket that was the nth to open.
func checkAccessLog(t *testing.T, s *server, p *peer, n int) {
	t.Helper()
	var lines []map[string]any
	for len(lines) <= n {
		lines = slices.DeleteFunc(s.logs.await(t, "handled request", n+1), func(e map[string]any) bool {
			return !strings.HasPrefix(e["request"].(map[string]any)["uri"].(string), "/ws")
		})
	}
	line := lines[n]
	if got := int(line["status"].(float64)); got != p.res.StatusCode {
		t.Errorf("%s: status in the access log is %d, want %d", p.name, got, p.res.StatusCode)
	}
	const payload = len("hello") + maxEchoFrame
	for _, field := range []string{"size", "bytes_read"} {
		if got := int(line[field].(float64)); got < payload || got > payload+100 {
			t.Errorf("%s: %s in the access log is %d, want a little more than %d", p.name, field, got, payload)
		}
	}
	if line["duration"].(float64) <= 0 {
		t.Errorf("%s: no duration in the access log", p.name)
	}
}

func TestHandshakeHeaderCase(t *testing.T) {
	s := start(t, "websocket {\nsubprotocols chat\n}")
	p := s.raw(t, "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: chat\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	head := make(map[string]bool)
	for line := p.line(); line != "\r\n"; line = p.line() {
		head[strings.TrimSpace(line)] = true
	}
	for _, want := range []string{
		"HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "Sec-WebSocket-Protocol: chat", "Server: Caddy",
	} {
		if !head[want] {
			t.Errorf("no line %q in %v", want, head)
		}
	}
}

func TestMatcher(t *testing.T) {
	onEveryProtocol(t, "@ws websocket\nhandle @ws {\nrespond socket 299\n}\nrespond page", func(t *testing.T, s *server, protocol string) {
		if p := s.attempt(t, protocol, "/"); p.res.StatusCode != 299 {
			t.Errorf("status of a handshake is %d, want 299", p.res.StatusCode)
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: insecure(), ForceAttemptHTTP2: true}}
		defer client.CloseIdleConnections()
		res, err := client.Get("https://" + s.secure)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if body, _ := io.ReadAll(res.Body); string(body) != "page" {
			t.Errorf("plain request: body is %q, want page", body)
		}
	})
}

func TestNextHandler(t *testing.T) {
	onEveryProtocol(t, "websocket /ws\nrespond next", func(t *testing.T, s *server, protocol string) {
		for _, path := range []string{"/", "/ws/"} {
			if p := s.attempt(t, protocol, path); p.res.StatusCode != 200 || p.body() != "next" {
				t.Errorf("%s: status %d, want the next handler's 200", path, p.res.StatusCode)
			}
		}
	})
}

// What is refused doesn't get to the handler behind.
func TestRefusedBeforeUpstream(t *testing.T) {
	u := listenUpstream(t)
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
	s := start(t, "websocket passthrough {\nallowed_origins https://good.example\nrequire_origin\nmax_connections 1\n}\nrespond /no-socket 204\nreverse_proxy "+u.Addr().String())
	good := []string{"Origin", "https://good.example"}
	for _, protocol := range protocols {
		for name, c := range map[string]struct {
			status int
			header []string
		}{
			"no origin":               {403, nil},
			"another origin":          {403, []string{"Origin", "https://bad.example"}},
			"two origins":             {403, append(good, good...)},
			"version":                 {426, append(good, "Sec-WebSocket-Version", "8")},
			"two versions":            {426, append(good, "Sec-WebSocket-Version", "13", "Sec-WebSocket-Version", "13")},
			"subprotocol with breaks": {400, append(good, "Sec-WebSocket-Protocol", "a b")},
			"extensions":              {400, append(good, "Sec-WebSocket-Extensions", "=")},
		} {
			if p := s.attempt(t, protocol, "/", c.header...); p.res.StatusCode != c.status {
				t.Errorf("%s, %s: status %d, want %d", protocol, name, p.res.StatusCode, c.status)
			}
		}
	}
	for name, request := range map[string]string{
		"no key":       "GET / HTTP/1.1\r\nHost: x\r\nOrigin: https://good.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
		"a short key":  "GET / HTTP/1.1\r\nHost: x\r\nOrigin: https://good.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA\r\n\r\n",
		"a body":       "GET / HTTP/1.1\r\nHost: x\r\nOrigin: https://good.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: 30\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
		"chunked body": "GET / HTTP/1.1\r\nHost: x\r\nOrigin: https://good.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST":         "POST / HTTP/1.1\r\nHost: x\r\nOrigin: https://good.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
	} {
		if line := s.raw(t, request).line(); !strings.HasPrefix(line, "HTTP/1.1 40") {
			t.Errorf("%s: %s", name, line)
		}
	}
	if len(reached) > 0 {
		t.Errorf("%d refused handshakes got to the upstream", len(reached))
	}
	s.attempt(t, "http1", "/", good...) // the test can tell: this one does
	<-reached
}

// The limit on sockets holds for those of the handler behind.
func TestMaxConnectionsOfPassthrough(t *testing.T) {
	onEveryTunnel(t, "max_connections 1", func(t *testing.T, s *server, u *upstream, protocol string) {
		closed := len(s.logs.entries("socket closed"))
		client, app := u.tunnel(s, protocol)
		if p := s.attempt(t, protocol, "/"); p.res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("status %d, want 503", p.res.StatusCode)
		}
		client.send(opText, "not disturbed")
		app.expectMasked(opText, "not disturbed")
		app.rw.Close()
		client.rw.Close()
		s.logs.await(t, "socket closed", closed+1)
	})
}
