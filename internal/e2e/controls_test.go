package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

const controlledSite = `
	log
	websocket /plain {
		test_controls
		subprotocols json
	}
	websocket /deflate {
		test_controls
		compression on takeover
	}
	websocket /off
	respond /no-socket 204
	handle_errors {
		respond "error {err.status_code}"
	}`

// dialControlled opens a socket with controls. On /deflate it offers compression.
func dialControlled(t *testing.T, s *wstest.Server, protocol, url string, header ...string) *wstest.Peer {
	t.Helper()
	if strings.HasPrefix(url, "/deflate") {
		header = append(header, "Sec-WebSocket-Extensions", "permessage-deflate; server_no_context_takeover; client_no_context_takeover")
	}
	return s.Dial(t, protocol, url, header...)
}

// receiveNotation receives a message or a control frame and writes it down: with the number of its
// frames, unless that is 1.
func receiveNotation(p *wstest.Peer) string {
	p.T.Helper()
	f := p.ReadFrame()
	first, payload, frames := f.First, f.Payload, 1
	for ; f.First&ws.FinBit == 0; frames++ {
		if f = p.ReadFrame(); f.First&^ws.FinBit != byte(ws.OpContinuation) {
			p.T.Fatalf("%s: frame %#x in the middle of a message", p.Name, f.First)
		}
		payload = append(payload, f.Payload...)
	}
	text := string(payload)
	if first&ws.RSV1Bit != 0 {
		text = wstest.Inflate(p.T, payload)
	}
	letter := map[ws.Opcode]string{ws.OpText: "T", ws.OpBinary: "B", ws.OpPing: "P", ws.OpPong: "O", ws.OpClose: "X"}[f.Opcode()]
	if f.Opcode() == ws.OpContinuation {
		letter = map[ws.Opcode]string{ws.OpText: "T", ws.OpBinary: "B"}[ws.Opcode(first&0xf)]
	}
	if f.Opcode() == ws.OpClose && len(payload) > 0 {
		text = fmt.Sprintf("%d,%s", int(payload[0])<<8|int(payload[1]), payload[2:])
	}
	if frames > 1 {
		letter += fmt.Sprint(frames)
	}
	return letter + ":" + text
}

// A scene is what a client asks for, sends, and receives then.
type scene struct {
	query, send string
	want        []string
	atLeast     time.Duration // from the handshake until all that is there
	by          string        // what has closed the socket; empty: the client does
	code        float64
}

var scenes = []scene{
	{query: "fragment=2", send: "T:abcde B: T:ab", want: []string{"T3:abcde", "B:", "T:ab"}},
	{query: "drop=3", send: "T:a T:b T:c T:d T:e T:f", want: []string{"T:a", "T:b", "T:d", "T:e"}},
	{query: "delay=300ms", send: "T:a t:b C:c", want: []string{"T:a", "T:bc"}, atLeast: 300 * time.Millisecond},
	{query: "accept_delay=300ms", send: "T:a", want: []string{"T:a"}, atLeast: 300 * time.Millisecond},
	{query: "rate=50&fragment=20", send: "B:%40", want: []string{"B2:" + wstest.Letters(40)}, atLeast: 700 * time.Millisecond},
	{query: "interval=50ms&count=2&size=10", want: []string{"T:1 of 2 ...", "T:2 of 2 ..."}, atLeast: 100 * time.Millisecond},
	{query: "interval=0s&count=1&size=100000&fragment=50000", want: []string{"T2:1 of 1 " + strings.Repeat(".", 100_000-7)}},
	{query: "close=1012&reason=back+soon", want: []string{"X:1012,back soon"}, by: "test_controls", code: 1012},
	{query: "close=1000&after=2", send: "T:a T:b T:c", want: []string{"T:a", "T:b", "X:1000,"}, by: "test_controls", code: 1000},
	{query: "close=4000&after=3s&delay=100ms", send: "T:a", want: []string{"T:a", "X:4000,"}, atLeast: 3 * time.Second, by: "test_controls", code: 4000},
	{query: "close=none", want: []string{"X:"}, by: "test_controls", code: 1005},
	// What no server may send, but some do.
	{query: "close=1005", want: []string{"X:1005,"}, by: "test_controls", code: 1005},
	{query: "close=1006&reason=x", want: []string{"X:1006,x"}, by: "test_controls", code: 1006},
	{query: "close=0", want: []string{"X:0,"}, by: "test_controls"},
	{query: "close=65535&after=1", send: "T:a", want: []string{"T:a", "X:65535,"}, by: "test_controls", code: 65535},
}

// Everything that can be asked for happens on every protocol, with and without compression.
func TestControls(t *testing.T) { //nolint:tparallel // other tests run meanwhile
	t.Parallel()
	s := &wstest.StartBeside(t, "", controlledSite).Server
	wstest.SideBySide(t, func(t *testing.T, protocol string) {
		for _, path := range []string{"/plain", "/deflate"} {
			for _, c := range scenes {
				t.Run(path+"?"+c.query, func(t *testing.T) {
					t.Parallel()
					c.play(t, s, protocol, path)
				})
			}
		}
	})
}

func (c *scene) play(t *testing.T, s *wstest.Server, protocol, path string) {
	id := protocol + path + c.query
	began := time.Now()
	p := dialControlled(t, s, protocol, path+"?"+c.query, "X-Test", id)
	if c.send != "" {
		p.WriteRaw(wstest.ClientBytes(c.send))
	}
	for i, want := range c.want {
		got := receiveNotation(p)
		if path == "/deflate" { // compressed, there are other numbers of frames
			_, got, _ = strings.Cut(got, ":")
			_, want, _ = strings.Cut(want, ":")
		}
		if got != want {
			t.Fatalf("after %q: got %.80q, want %.80q", c.want[:i], got, want)
		}
	}
	if took := time.Since(began); took < c.atLeast {
		t.Errorf("took %s, want at least %s", took, c.atLeast)
	}
	by, code := c.by, c.code
	if by == "" {
		by, code = "client", 1000
		p.SendClose(1000, "")
		p.ExpectClose(1000, "")
	} else {
		p.Send(ws.OpClose, "")
	}
	p.ExpectEnd()
	p.Conn.Close()
	socket := loggedSocket(t, s, id)
	if socket["closed_by"] != by || socket["close_code"] != code {
		t.Errorf("closed by %v with %v, want by %s with %v", socket["closed_by"], socket["close_code"], by, code)
	}
}

// loggedSocket waits for the entry in the access log of the request with an X-Test header, and
// returns what it says of the socket.
func loggedSocket(t *testing.T, s *wstest.Server, id string) map[string]any {
	t.Helper()
	for seen := 0; ; {
		entries := s.Logs.Await(t, "handled request", seen+1)
		for _, e := range entries[seen:] {
			headers := e["request"].(map[string]any)["headers"].(map[string]any)
			if ids, ok := headers["X-Test"].([]any); ok && ids[0] == id {
				socket, _ := e["websocket"].(map[string]any)
				return socket
			}
		}
		seen = len(entries)
	}
}

// An abort ends the connection without a Close frame, in the middle of a frame if need be.
func TestControlsAbort(t *testing.T) { //nolint:tparallel // other tests run meanwhile
	t.Parallel()
	s := &wstest.StartBeside(t, "", controlledSite).Server
	wstest.SideBySide(t, func(t *testing.T, protocol string) {
		for query, send := range map[string]string{
			"abort":                  "",
			"abort&after=1":          "T:a",
			"abort&after=100ms":      "",
			"abort&rate=10&after=1s": "T:%1000",
		} {
			for _, path := range []string{"/plain", "/deflate"} {
				t.Run(path+"?"+query, func(t *testing.T) {
					t.Parallel()
					id := protocol + path + query
					p := dialControlled(t, s, protocol, path+"?"+query, "X-Test", id)
					if send != "" {
						p.WriteRaw(wstest.ClientBytes(send))
					}
					f, err := p.TryReadFrame()
					if send == "T:a" {
						if err != nil {
							t.Fatalf("no reply: %v", err)
						}
						f, err = p.TryReadFrame()
					}
					if err == nil {
						t.Fatalf("got frame %#x %.60q, want the end", f.First, f.Payload)
					}
					if strings.Contains(err.Error(), "deadline") || strings.Contains(err.Error(), "timeout") {
						t.Fatalf("the connection didn't end: %v", err)
					}
					if socket := loggedSocket(t, s, id); socket["closed_by"] != "test_controls" || socket["close_code"] != 1006.0 || socket["error"] != "abort" {
						t.Errorf("logged %v", socket)
					}
				})
			}
		}
	})
}

// A Close frame that is not to be answered isn't, however long the client waits.
func TestControlsNeverReply(t *testing.T) { //nolint:tparallel // other tests run meanwhile
	t.Parallel()
	s := &wstest.StartBeside(t, "", controlledSite).Server
	wstest.SideBySide(t, func(t *testing.T, protocol string) {
		id := protocol + "never"
		p := s.Dial(t, protocol, "/plain?close_reply=never&ping=50ms", "X-Test", id)
		began := time.Now()
		p.SendClose(4001, "bye")
		p.SetReadDeadline = func(time.Time) error { return nil } // its race with Close
		time.AfterFunc(4*time.Second, func() { p.Conn.Close() }) // longer than a Close frame waits elsewhere
		for {
			f, err := p.TryReadFrame()
			if err != nil {
				break
			}
			if f.Opcode() != ws.OpPing {
				t.Errorf("got frame %#x %q", f.First, f.Payload)
			}
		}
		if took := time.Since(began); took < 4*time.Second {
			t.Errorf("the server ended the connection after %s", took)
		}
		if socket := loggedSocket(t, s, id); socket["closed_by"] != "client" || socket["close_code"] != 4001.0 {
			t.Errorf("logged %v", socket)
		}
	})
}

func TestControlsPing(t *testing.T) {
	wstest.OnEveryProtocol(t, controlledSite, func(t *testing.T, s *wstest.Server, protocol string) {
		p := s.Dial(t, protocol, "/plain?ping=50ms", "X-Test", protocol)
		for range 3 {
			p.Send(ws.OpPong, p.ExpectPing())
		}
		p.SendClose(1000, "")
		p.ExpectCloseAfterPings(1000, "")
		p.ExpectEnd()
		p.Conn.Close()
		if socket := loggedSocket(t, s, protocol); socket["last_rtt"] == nil || socket["pings_sent"].(float64) < 3 {
			t.Errorf("logged %v", socket)
		}
	})
}

// The first message describes the handshake and has no secrets.
func TestControlsHello(t *testing.T) {
	wstest.OnEveryProtocol(t, controlledSite, func(t *testing.T, s *wstest.Server, protocol string) {
		for _, path := range []string{"/plain", "/deflate"} {
			p := dialControlled(t, s, protocol, path+"?hello&delay=1ms&subprotocol=odd",
				"Cookie", "id=SECRET", "Authorization", "Bearer SECRET", "X-Api-Key", "SECRET", "X-Auth-Token", "SECRET",
				"Remote-User", "SECRET", "X-Amzn-Oidc-Data", "SECRET", "Sec-WebSocket-Protocol", "json", "User-Agent", "tester", "X-Test-Custom", "a", "X-Test-Custom", "b")
			if got := p.Response.Header.Get("Sec-WebSocket-Protocol"); got != "odd" {
				t.Errorf("subprotocol %q", got)
			}
			text := strings.TrimPrefix(receiveNotation(p), "T:")
			if strings.Contains(text, "SECRET") {
				t.Errorf("there are secrets in %s", text)
			}
			var hello struct {
				HTTP, Host, Subprotocol, Extensions string
				RemoteAddr                          string `json:"remote_addr"`
				Controls                            map[string]string
				Headers                             http.Header
			}
			if err := json.Unmarshal([]byte(text), &hello); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			version := map[string]string{"http1": "1.1", "tls": "1.1", "http2": "2.0", "http3": "3.0"}[protocol]
			if hello.HTTP != version || hello.Subprotocol != "odd" || hello.Extensions != p.Response.Header.Get("Sec-WebSocket-Extensions") ||
				!strings.HasPrefix(hello.RemoteAddr, "127.0.0.1:") || !strings.HasPrefix(hello.Host, "127.0.0.1:") {
				t.Errorf("got %s", text)
			}
			if fmt.Sprint(hello.Controls) != "map[delay:1ms hello: subprotocol:odd]" {
				t.Errorf("controls: %v", hello.Controls)
			}
			for name, want := range map[string][]string{
				"X-Test-Custom": {"a", "b"}, "User-Agent": {"tester"}, "Sec-Websocket-Protocol": {"json"},
				"Cookie": {"REDACTED"}, "Authorization": {"REDACTED"}, "Remote-User": {"REDACTED"}, ":protocol": nil,
			} {
				if got := hello.Headers[name]; !slices.Equal(got, want) {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			p.WriteRaw(wstest.ClientBytes("T:still X:1000"))
			for _, want := range []string{"X:1000,"} { // the reply is late, and the client gone
				if got := receiveNotation(p); got != "T:still" && got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
			p.Conn.Close()
		}
	})
}
