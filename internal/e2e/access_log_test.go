package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// A frameLog adds up frames as they are on the wire.
type frameLog struct{ bytes int }

func (l *frameLog) add(frame []byte) []byte {
	l.bytes += len(frame)
	return frame
}

// talkAndClose has a message of two fragments go up and one frame come down, and both
// close. It tells how long the client's frames were and the server's.
func talkAndClose(client, app *wstest.Peer, message string) (in, out frameLog) {
	closing := ws.ClosePayload(1000, "bye")
	client.WriteRaw(in.add(wstest.ClientFrame(byte(ws.OpText), []byte(message[:3000]))))
	client.WriteRaw(in.add(wstest.ClientFrame(ws.FinBit, []byte(message[3000:]))))
	if app != nil {
		app.ReadMasked()
		app.ReadMasked()
		app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpText), message))
	}
	client.Expect(ws.OpText, message)
	out.add(wstest.ServerFrame(ws.FinBit|byte(ws.OpText), message))
	client.WriteRaw(in.add(wstest.ClientFrame(ws.FinBit|byte(ws.OpClose), closing)))
	if app != nil {
		app.ExpectMasked(ws.OpClose, string(closing))
		app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpClose), string(closing)))
		app.Conn.Close()
	}
	client.ExpectClose(1000, "bye")
	out.add(wstest.ServerFrame(ws.FinBit|byte(ws.OpClose), string(closing)))
	client.ExpectEnd()
	client.Conn.Close()
	return in, out
}

// The access log has one entry for a socket, with everything in it.
func TestAccessLog(t *testing.T) {
	const secret = "what nobody else must see"
	message := secret + wstest.Letters(5000)
	u := wstest.ListenUpstream(t)
	s := wstest.Start(t, "log\nwebsocket /echo {\nsubprotocols chat\n}\nwebsocket passthrough {\nallowed_origins *\n}\nrespond /no-socket 204\nreverse_proxy "+u.Addr().String())
	for _, protocol := range wstest.Protocols {
		for _, mode := range []string{"echo", "passthrough"} {
			t.Run(protocol+" "+mode, func(t *testing.T) {
				var client, app *wstest.Peer
				header := []string{"Sec-WebSocket-Protocol", "chat", "Origin", "https://example.com"}
				if mode == "echo" {
					client = s.Dial(t, protocol, "/echo", header...)
				} else {
					client, app = u.For(t).Tunnel(s, protocol, header...)
				}
				before := len(s.Logs.Entries("handled request"))
				in, out := talkAndClose(client, app, message)
				entry, socket := s.LastAccess(t, before)
				status := 101
				if protocol == "http2" || protocol == "http3" {
					status = 200
				}
				if entry["status"] != float64(status) || entry["bytes_read"] != float64(in.bytes) || entry["size"] != float64(out.bytes) {
					t.Errorf("status %v, bytes_read %v, size %v, want %d, %d, %d",
						entry["status"], entry["bytes_read"], entry["size"], status, in.bytes, out.bytes)
				}
				if d, _ := entry["duration"].(float64); d <= 0 {
					t.Errorf("duration %v", entry["duration"])
				}
				id, _ := socket["id"].(string)
				if len(id) < 20 {
					t.Errorf("id is %q", id)
				}
				want := map[string]any{
					"id": id, "mode": mode, "compression": false, "supervised": true, "origin": "https://example.com",
					"messages_received": 1.0, "messages_sent": 1.0,
					"bytes_received": float64(len(message)), "bytes_sent": float64(len(message)),
					"pings_sent": 0.0, "close_code": 1000.0, "close_reason": "bye", "closed_by": "client",
				}
				if mode == "echo" {
					want["subprotocol"] = "chat"
				}
				if got := fmt.Sprint(socket); got != fmt.Sprint(want) {
					t.Errorf("the websocket object is\n%v, want\n%v", got, want)
				}
				for _, msg := range []string{"socket opened", "socket closed"} {
					entries := s.Logs.Entries(msg)
					if last := entries[len(entries)-1]; last["id"] != id || last["level"] != "debug" {
						t.Errorf("%s: %v, want debug and id %s", msg, last, id)
					}
				}
			})
		}
	}
	if strings.Contains(s.Logs.String(), secret) {
		t.Error("the log has a payload in it")
	}
}

// With compression, echo counts what was compressed and passthrough what passed.
func TestCountsOfCompressed(t *testing.T) {
	u := wstest.ListenUpstream(t)
	s := wstest.Start(t, "log\nwebsocket /echo {\ncompression on\n}\nwebsocket passthrough {\nallowed_origins *\n}\nreverse_proxy "+u.Addr().String())
	message := wstest.Deflate(wstest.Letters(10_000))
	frame := wstest.ClientFrame(ws.FinBit|ws.RSV1Bit|byte(ws.OpText), message)
	offer := []string{"Sec-WebSocket-Extensions", "permessage-deflate"}

	client := s.Dial(t, "http1", "/echo", offer...)
	client.WriteRaw(frame)
	client.ReadFrame()
	before := len(s.Logs.Entries("handled request"))
	client.CloseNormally()
	_, socket := s.LastAccess(t, before)
	if socket["compression"] != true || socket["bytes_received"] != 10_000.0 || socket["bytes_sent"] != 10_000.0 {
		t.Errorf("echo: %v, want 10000 bytes in each direction", socket)
	}

	go func() {
		_, app := u.AcceptSocketWith("Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: chat\r\n")
		app.ReadMasked()
		app.WriteRaw(wstest.ServerFrame(ws.FinBit|ws.RSV1Bit|byte(ws.OpText), string(message)))
		app.ReadMasked()
		app.Conn.Close()
	}()
	client = s.Dial(t, "http1", "/", offer...)
	client.WriteRaw(frame)
	client.ReadFrame()
	before = len(s.Logs.Entries("handled request"))
	client.SendClose(1000, "")
	client.Conn.Close()
	_, socket = s.LastAccess(t, before)
	size := float64(len(message))
	if socket["compression"] != true || socket["subprotocol"] != "chat" || socket["bytes_received"] != size || socket["bytes_sent"] != size {
		t.Errorf("passthrough: %v, want chat and %v bytes in each direction", socket, size)
	}
}

// Placeholders are there for the handlers behind and for those around.
func TestPlaceholders(t *testing.T) {
	u := wstest.ListenUpstream(t)
	s := wstest.Start(t, `log
		log_append code {http.websocket.close_code}
		log_append by {http.websocket.closed_by}
		log_append got {http.websocket.messages_received}
		log_append other {http.websocket.unknown}
		websocket /echo
		websocket passthrough {
			allowed_origins *
		}
		handle_errors {
			respond "{http.websocket.mode} {http.error.status_code}"
		}
		reverse_proxy `+u.Addr().String()+` {
			header_up X-Socket "{http.websocket.mode} {http.websocket.id}"
		}`)
	check := func(client *wstest.Peer) map[string]any {
		t.Helper()
		before := len(s.Logs.Entries("handled request"))
		client.SendClose(4000, "")
		client.Conn.Close()
		entry, socket := s.LastAccess(t, before)
		if entry["code"] != 4000.0 || entry["by"] != "client" || entry["got"] != 0.0 || entry["other"] != nil {
			t.Errorf("placeholders: code %v, by %v, got %v, other %v", entry["code"], entry["by"], entry["got"], entry["other"])
		}
		return socket
	}
	check(s.Dial(t, "http1", "/echo"))

	type arrival struct {
		header string
		app    *wstest.Peer
	}
	arrived := make(chan arrival)
	go func() {
		req, app := u.AcceptSocketWith("")
		arrived <- arrival{req.Header.Get("X-Socket"), app}
	}()
	client := s.Dial(t, "http1", "/")
	a := <-arrived
	go func() {
		a.app.ReadMasked()
		a.app.Conn.Close()
	}()
	if socket := check(client); a.header != fmt.Sprintf("passthrough %v", socket["id"]) {
		t.Errorf("the upstream was told %q, the log %v", a.header, socket["id"])
	}

	u.Close()
	p := s.TryDial(t, "http1", "/")
	if body := p.Body(); body != "passthrough 502" {
		t.Errorf("handle_errors rendered %q", body)
	}
}

// A session's span ends when the session does, and says how.
func TestTracing(t *testing.T) {
	t.Setenv("OTEL_TRACES_EXPORTER", "console")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
	p := wstest.StartProcess(t, "", "tracing\nwebsocket")
	p.Dial(t, "http1", "/").CloseNormally()
	p.Terminate(t)
	p.ExpectExit(t)
	trace := p.Stdout.String()
	for _, want := range []string{`"websocket.close_code","Value":{"Type":"INT64","Value":1000}`, `"websocket.closed_by","Value":{"Type":"STRING","Value":"client"}`} {
		if !strings.Contains(strings.NewReplacer("\n", "", "\t", "", " ", "").Replace(trace), want) {
			t.Errorf("no %s in the span:\n%s", want, trace)
		}
	}
}

// What a client says can't make up log entries.
func TestLogInjection(t *testing.T) {
	s := wstest.Start(t, "log\nwebsocket {\nsubprotocols chat\n}")
	const forged = `","closed_by":"admin"}` + "\n" + `{"level":"info","msg":"forged"}` + "\x1b[2J"
	p := s.Dial(t, "http1", "/", "Origin", `https://a.example"}\n{"msg":"forged"}`)
	p.SendClose(4000, forged)
	p.ExpectClose(4000, forged)
	p.Conn.Close()
	_, socket := s.LastAccess(t, 0)
	if socket["close_reason"] != forged || socket["closed_by"] != "client" {
		t.Errorf("the log has %v", socket)
	}
	if entries := s.Logs.Entries("forged"); len(entries) > 0 {
		t.Errorf("a client wrote %v", entries)
	}
	if strings.ContainsRune(s.Logs.String(), '\x1b') {
		t.Error("an escape sequence is in the log as it is")
	}
}
