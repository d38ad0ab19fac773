package e2e

import (
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// What a client sends before it has the answer to its handshake isn't lost.
func TestEarlyFrames(t *testing.T) {
	for _, site := range []string{"websocket", "log\nwebsocket"} {
		s := wstest.Start(t, site)
		p := s.SendRequest(t, "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"+
			string(wstest.ClientFrame(ws.FinBit|byte(ws.OpText), []byte("early"))))
		for p.ReadLine() != "\r\n" {
		}
		p.Expect(ws.OpText, "early")
		p.Echo(ws.OpText, "later")
		p.CloseNormally()
	}
}

func TestSubprotocols(t *testing.T) {
	wstest.OnEveryProtocol(t, "websocket {\nsubprotocols v2.chat v1.chat\n}", func(t *testing.T, s *wstest.Server, protocol string) {
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
			{[]string{""}, ""},
			{[]string{","}, ""},
			{[]string{"v1.chat,"}, "v1.chat"},
			{[]string{", v1.chat"}, "v1.chat"},
			{[]string{"", "other,, v1.chat", ""}, "v1.chat"},
		} {
			var header []string
			for _, offered := range c.offered {
				header = append(header, "Sec-WebSocket-Protocol", offered)
			}
			p := s.Dial(t, protocol, "/", header...)
			got, ok := p.Response.Header["Sec-Websocket-Protocol"]
			if ok != (c.want != "") || ok && (len(got) != 1 || got[0] != c.want) {
				t.Errorf("offered %q: got %q, want %q", c.offered, got, c.want)
			}
			p.Echo(ws.OpText, "hello")
			p.CloseNormally()
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
			s := wstest.StartGlobal(t, "metrics", sites[name])
			for i, protocol := range wstest.Protocols {
				p := s.Dial(t, protocol, "/ws", "Accept-Encoding", "gzip, zstd", "Authorization", "Basic dXNlcjpoaWNjdXA=")
				if strings.Contains(sites[name], "X-Test") && p.Response.Header.Get("X-Test") != "on" {
					t.Errorf("%s: no X-Test in %v", protocol, p.Response.Header)
				}
				if strings.Contains(sites[name], "-Server") && p.Response.Header.Get("Server") != "" {
					t.Errorf("%s: a Server header", protocol)
				}
				if encoding := p.Response.Header.Get("Content-Encoding"); encoding != "" {
					t.Errorf("%s: Content-Encoding is %q", protocol, encoding)
				}
				p.Echo(ws.OpText, "hello")
				p.Echo(ws.OpText, wstest.Letters(100_000)[:wstest.LongestFrame])
				p.CloseNormally()
				if strings.Contains(sites[name], "log\n") {
					checkAccessLog(t, s, p, i)
				}
			}
		})
	}
}

// checkAccessLog checks the line of the socket that was the nth to open.
func checkAccessLog(t *testing.T, s *wstest.Server, p *wstest.Peer, n int) {
	t.Helper()
	var lines []map[string]any
	for len(lines) <= n {
		lines = slices.DeleteFunc(s.Logs.Await(t, "handled request", n+1), func(e map[string]any) bool {
			return !strings.HasPrefix(e["request"].(map[string]any)["uri"].(string), "/ws")
		})
	}
	line := lines[n]
	if got := int(line["status"].(float64)); got != p.Response.StatusCode {
		t.Errorf("%s: status in the access log is %d, want %d", p.Name, got, p.Response.StatusCode)
	}
	const payload = len("hello") + wstest.LongestFrame
	for _, field := range []string{"size", "bytes_read"} {
		if got := int(line[field].(float64)); got < payload || got > payload+100 {
			t.Errorf("%s: %s in the access log is %d, want a little more than %d", p.Name, field, got, payload)
		}
	}
	if line["duration"].(float64) <= 0 {
		t.Errorf("%s: no duration in the access log", p.Name)
	}
}

func TestHandshakeHeaderCase(t *testing.T) {
	s := wstest.Start(t, "websocket {\nsubprotocols chat\n}")
	p := s.SendRequest(t, "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: chat\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	head := make(map[string]bool)
	for line := p.ReadLine(); line != "\r\n"; line = p.ReadLine() {
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
	wstest.OnEveryProtocol(t, "@ws websocket\nhandle @ws {\nrespond socket 299\n}\nrespond page", func(t *testing.T, s *wstest.Server, protocol string) {
		if p := s.TryDial(t, protocol, "/"); p.Response.StatusCode != 299 {
			t.Errorf("status of a handshake is %d, want 299", p.Response.StatusCode)
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: wstest.InsecureTLS(), ForceAttemptHTTP2: true}}
		defer client.CloseIdleConnections()
		res, err := client.Get("https://" + s.Secure)
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
	wstest.OnEveryProtocol(t, "websocket /ws\nrespond next", func(t *testing.T, s *wstest.Server, protocol string) {
		for _, path := range []string{"/", "/ws/"} {
			if p := s.TryDial(t, protocol, path); p.Response.StatusCode != 200 || p.Body() != "next" {
				t.Errorf("%s: status %d, want the next handler's 200", path, p.Response.StatusCode)
			}
		}
	})
}
