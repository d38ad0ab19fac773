package passthrough

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// onBothModes runs f on all protocols over an echo, and over a supervised application that
// echoes.
func onBothModes(t *testing.T, options string, f func(t *testing.T, s *wstest.Server, protocol, path string)) {
	t.Helper()
	p := wstest.StartBeside(t, "", fmt.Sprintf(`
		log
		metrics /metrics
		websocket /echo {
			%s
		}
		websocket /app passthrough {
			allowed_origins *
			%[1]s
		}
		respond /no-socket 204
		reverse_proxy %s`, options, wstest.EchoUpstream(t)))
	wstest.SideBySide(t, func(t *testing.T, protocol string) {
		for _, path := range []string{"/echo", "/app"} {
			f(t, &p.Server, protocol, path+"?"+protocol)
		}
	})
	for _, e := range p.Logs.Entries("panic while serving a socket") {
		t.Error(e)
	}
}

// A client that sends too much waits, and loses nothing.
func TestRateDelays(t *testing.T) {
	t.Parallel()
	for _, option := range []string{"message_rate 5 100ms", "byte_rate 500 100ms"} {
		t.Run(option, func(t *testing.T) {
			t.Parallel()
			onBothModes(t, option, func(t *testing.T, s *wstest.Server, protocol, path string) {
				p := s.Dial(t, protocol, path)
				var sent []string
				for i := range 20 {
					sent = append(sent, fmt.Sprint(i, " ", wstest.Letters(10*i)))
					p.Send(ws.OpText, sent[i])
				}
				for _, message := range sent {
					p.Expect(ws.OpText, message)
				}
				p.SendClose(1000, "")
				p.ExpectClose(1000, "")
				p.Conn.Close()
			})
		})
	}
}

// A client that is held back gets Pings, and the socket is reported as delayed.
func TestRateKeepsAlive(t *testing.T) {
	t.Parallel()
	onBothModes(t, "message_rate 1 2s\nkeepalive 50ms 1s", func(t *testing.T, s *wstest.Server, protocol, path string) {
		p := s.Dial(t, protocol, path)
		p.Send(ws.OpText, "first")
		p.Send(ws.OpText, "second")
		pings := 0
		for messages := 0; messages < 2; {
			f := p.ReadFrame()
			if f.Opcode() == ws.OpPing {
				p.Send(ws.OpPong, string(f.Payload)) // behind the message that is held back
				pings++
			} else {
				messages++
			}
		}
		if pings < 5 {
			t.Errorf("%s: %s: %d Pings", protocol, path, pings)
		}
		p.Conn.Close()
		if entry := awaitAccess(t, s, path); entry["closed_by"] != "client" || entry["delayed"].(float64) < 1 {
			t.Errorf("%s: %s: closed by %v after a delay of %v", protocol, path, entry["closed_by"], entry["delayed"])
		}
		_, samples := s.Fetch(t, "http1", http.MethodGet, "/metrics")
		if n := len(regexp.MustCompile(`(?m)^caddy_websocket_rate_delay_seconds_total{.*} .*[1-9]`).FindAllString(samples, -1)); n == 0 {
			t.Error("the metrics don't count the delay")
		}
	})
}

// awaitAccess waits until the socket of a path is in the access log.
func awaitAccess(t *testing.T, s *wstest.Server, path string) map[string]any {
	t.Helper()
	for n := 1; ; n++ {
		for _, e := range s.Logs.Await(t, "handled request", n) {
			socket, _ := e["websocket"].(map[string]any)
			if socket != nil && e["request"].(map[string]any)["uri"] == path {
				return socket
			}
		}
	}
}

// The socket of a client that sends too much is closed, if that is asked for.
func TestRateCloses(t *testing.T) {
	t.Parallel()
	const text = "0123456789"
	for option, c := range map[string]struct {
		reason string
		passes int
	}{
		"message_rate 3 1h close": {"message rate exceeded", 3},
		"byte_rate 48 1h close":   {"byte rate exceeded", 3}, // of 16 bytes each
	} {
		t.Run(option, func(t *testing.T) {
			t.Parallel()
			onBothModes(t, option, func(t *testing.T, s *wstest.Server, protocol, path string) {
				p := s.Dial(t, protocol, path)
				for range c.passes + 2 {
					p.Send(ws.OpText, text)
				}
				p.SendClose(1000, "my own")
				for f := p.ReadFrame(); ; f = p.ReadFrame() { // the application's last answers may be late
					if f.Opcode() != ws.OpClose {
						continue
					}
					if want := string(ws.ClosePayload(1008, c.reason)); string(f.Payload) != want {
						t.Errorf("%s: %s: closed with %q, want %q", protocol, path, f.Payload, want)
					}
					break
				}
				p.ExpectEnd()
				p.Conn.Close()
				entry := awaitAccess(t, s, path)
				if entry["closed_by"] != "server" || entry["close_code"] != 1008.0 || entry["messages_received"] != float64(c.passes) {
					t.Errorf("%s: %s: logged as %v", protocol, path, entry)
				}
			})
		})
	}
}

// The application gets what was allowed, and then the same Close frame; within a frame, for
// which none fits in, nothing.
func TestRateClosesApplication(t *testing.T) {
	t.Parallel()
	wstest.OnEveryTunnelBeside(t, "byte_rate 1000 1h close", func(t *testing.T, s *wstest.Server, u *wstest.Upstream, protocol string) {
		client, app := u.Tunnel(s, protocol)
		client.Send(ws.OpText, wstest.Letters(500))
		app.ExpectMasked(ws.OpText, wstest.Letters(500))
		client.Send(ws.OpText, wstest.Letters(1000))
		client.ExpectClose(1008, "byte rate exceeded")
		head := make([]byte, 8)
		if _, err := app.Reader.Read(head); err != nil || head[0] != ws.FinBit|byte(ws.OpText) {
			t.Errorf("%s: the application gets %x, %v", protocol, head, err)
		}
		client.AnswerClose(1008)
		client.ExpectEnd()
		rest := new(strings.Builder)
		if _, err := app.Reader.WriteTo(rest); err != nil || rest.Len() > 1000-500-16 {
			t.Errorf("%s: the application gets %d bytes more, %v", protocol, rest.Len(), err)
		}
	})
	wstest.OnEveryTunnelBeside(t, "message_rate 1 1h close", func(t *testing.T, s *wstest.Server, u *wstest.Upstream, protocol string) {
		client, app := u.Tunnel(s, protocol)
		client.WriteRaw(wstest.ClientFrame(ws.FinBit|byte(ws.OpText), []byte("one")), wstest.ClientFrame(ws.FinBit|byte(ws.OpPing), nil))
		app.ExpectMasked(ws.OpText, "one")
		app.ExpectMasked(ws.OpClose, string(ws.ClosePayload(1008, "message rate exceeded")))
		client.ExpectClose(1008, "message rate exceeded")
		app.Conn.Close()
		client.AnswerClose(1008)
		client.ExpectEnd()
	})
}

// A client that is held back on one stream can go on with others of the same connection. On
// HTTP/3 that is only true for one of 512 KiB: Caddy's QUIC connections take 768 KiB in all.
func TestRateSparesNeighbors(t *testing.T) {
	s := wstest.Start(t, fmt.Sprintf(`
		websocket /slow {
			byte_rate 1KiB 10s
		}
		websocket /slow-app passthrough {
			allowed_origins *
			message_rate 1 1h
		}
		websocket /echo
		respond /no-socket 204
		reverse_proxy %s`, wstest.EchoUpstream(t)))
	slow := map[string][]string{"http2": {"/slow", "/slow-app", "/slow", "/slow-app"}, "http3": {"/slow"}}
	s.ShareConnections(t)
	for protocol, paths := range slow {
		neighbor := s.Dial(t, protocol, "/echo")
		for _, path := range paths {
			p := s.Dial(t, protocol, path)
			full := make(chan struct{})
			go func() {
				defer close(full)
				wstest.Stall(p, wstest.ClientFrame(ws.FinBit|byte(ws.OpBinary), make([]byte, 1<<16)))
			}()
			defer func() {
				p.Conn.Close()
				<-full
			}()
		}
		for i := range 300 {
			neighbor.Echo(ws.OpText, fmt.Sprint(i, wstest.Letters(10_000)))
		}
		neighbor.CloseNormally()
	}
}
