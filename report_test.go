package caddywebsocket

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// A frameLog adds up frames as they are on the wire.
type frameLog struct{ bytes int }

func (l *frameLog) add(frame []byte) []byte {
	l.bytes += len(frame)
	return frame
}

// talkAndClose has a message of two fragments go up and one frame come down, and both
// close. It tells how long the client's frames were and the server's.
func talkAndClose(client, app *peer, message string) (in, out frameLog) {
	closing := ws.ClosePayload(1000, "bye")
	client.write(in.add(clientFrame(byte(ws.OpText), []byte(message[:3000]))))
	client.write(in.add(clientFrame(ws.FinBit, []byte(message[3000:]))))
	if app != nil {
		app.readMasked()
		app.readMasked()
		app.write(serverFrame(ws.FinBit|byte(ws.OpText), message))
	}
	client.expect(ws.OpText, message)
	out.add(serverFrame(ws.FinBit|byte(ws.OpText), message))
	client.write(in.add(clientFrame(ws.FinBit|byte(ws.OpClose), closing)))
	if app != nil {
		app.expectMasked(ws.OpClose, string(closing))
		app.write(serverFrame(ws.FinBit|byte(ws.OpClose), string(closing)))
		app.rw.Close()
	}
	client.expectClose(1000, "bye")
	out.add(serverFrame(ws.FinBit|byte(ws.OpClose), string(closing)))
	client.expectEnd()
	client.rw.Close()
	return in, out
}

// The access log has one entry for a socket, with everything in it.
func TestAccessLog(t *testing.T) {
	const secret = "what nobody else must see"
	message := secret + letters(5000)
	u := listenUpstream(t)
	s := start(t, "log\nwebsocket /echo {\nsubprotocols chat\n}\nwebsocket passthrough {\nallowed_origins *\n}\nrespond /no-socket 204\nreverse_proxy "+u.Addr().String())
	for _, protocol := range protocols {
		for _, mode := range []string{modeEcho, modePassthrough} {
			t.Run(protocol+" "+mode, func(t *testing.T) {
				var client, app *peer
				header := []string{"Sec-WebSocket-Protocol", "chat", "Origin", "https://example.com"}
				if mode == modeEcho {
					client = s.dial(t, protocol, "/echo", header...)
				} else {
					client, app = u.forTest(t).tunnel(s, protocol, header...)
				}
				before := len(s.logs.entries("handled request"))
				in, out := talkAndClose(client, app, message)
				entry, socket := s.lastAccess(t, before)
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
				if mode == modeEcho {
					want["subprotocol"] = "chat"
				}
				if got := fmt.Sprint(socket); got != fmt.Sprint(want) {
					t.Errorf("the websocket object is\n%v, want\n%v", got, want)
				}
				for _, msg := range []string{"socket opened", "socket closed"} {
					entries := s.logs.entries(msg)
					if last := entries[len(entries)-1]; last["id"] != id || last["level"] != "debug" {
						t.Errorf("%s: %v, want debug and id %s", msg, last, id)
					}
				}
			})
		}
	}
	if strings.Contains(s.logs.String(), secret) {
		t.Error("the log has a payload in it")
	}
}

// With compression, echo counts what was compressed and passthrough what passed.
func TestCountsOfCompressed(t *testing.T) {
	u := listenUpstream(t)
	s := start(t, "log\nwebsocket /echo {\ncompression on\n}\nwebsocket passthrough {\nallowed_origins *\n}\nreverse_proxy "+u.Addr().String())
	message := deflateMessage(letters(10_000))
	frame := clientFrame(ws.FinBit|ws.RSV1Bit|byte(ws.OpText), message)
	offer := []string{"Sec-WebSocket-Extensions", "permessage-deflate"}

	client := s.dial(t, "http1", "/echo", offer...)
	client.write(frame)
	client.read()
	before := len(s.logs.entries("handled request"))
	client.bye()
	_, socket := s.lastAccess(t, before)
	if socket["compression"] != true || socket["bytes_received"] != 10_000.0 || socket["bytes_sent"] != 10_000.0 {
		t.Errorf("echo: %v, want 10000 bytes in each direction", socket)
	}

	go func() {
		_, app := u.acceptWith("Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: chat\r\n")
		app.readMasked()
		app.write(serverFrame(ws.FinBit|ws.RSV1Bit|byte(ws.OpText), string(message)))
		app.readMasked()
		app.rw.Close()
	}()
	client = s.dial(t, "http1", "/", offer...)
	client.write(frame)
	client.read()
	before = len(s.logs.entries("handled request"))
	client.sendClose(1000, "")
	client.rw.Close()
	_, socket = s.lastAccess(t, before)
	size := float64(len(message))
	if socket["compression"] != true || socket["subprotocol"] != "chat" || socket["bytes_received"] != size || socket["bytes_sent"] != size {
		t.Errorf("passthrough: %v, want chat and %v bytes in each direction", socket, size)
	}
}

// Placeholders are there for the handlers behind and for those around.
func TestPlaceholders(t *testing.T) {
	u := listenUpstream(t)
	s := start(t, `log
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
	check := func(client *peer) map[string]any {
		t.Helper()
		before := len(s.logs.entries("handled request"))
		client.sendClose(4000, "")
		client.rw.Close()
		entry, socket := s.lastAccess(t, before)
		if entry["code"] != 4000.0 || entry["by"] != "client" || entry["got"] != 0.0 || entry["other"] != nil {
			t.Errorf("placeholders: code %v, by %v, got %v, other %v", entry["code"], entry["by"], entry["got"], entry["other"])
		}
		return socket
	}
	check(s.dial(t, "http1", "/echo"))

	type arrival struct {
		header string
		app    *peer
	}
	arrived := make(chan arrival)
	go func() {
		req, app := u.acceptWith("")
		arrived <- arrival{req.Header.Get("X-Socket"), app}
	}()
	client := s.dial(t, "http1", "/")
	a := <-arrived
	go func() {
		a.app.readMasked()
		a.app.rw.Close()
	}()
	if socket := check(client); a.header != fmt.Sprintf("passthrough %v", socket["id"]) {
		t.Errorf("the upstream was told %q, the log %v", a.header, socket["id"])
	}

	u.Close()
	p := s.attempt(t, "http1", "/")
	if body := p.body(); body != "passthrough 502" {
		t.Errorf("handle_errors rendered %q", body)
	}
}

// A session's span ends when the session does, and says how.
func TestTracing(t *testing.T) {
	t.Setenv("OTEL_TRACES_EXPORTER", "console")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
	p := startProcess(t, "", "tracing\nwebsocket")
	p.dial(t, "http1", "/").bye()
	p.terminate(t)
	p.expectExit(t)
	trace := p.stdout.String()
	for _, want := range []string{`"websocket.close_code","Value":{"Type":"INT64","Value":1000}`, `"websocket.closed_by","Value":{"Type":"STRING","Value":"client"}`} {
		if !strings.Contains(strings.NewReplacer("\n", "", "\t", "", " ", "").Replace(trace), want) {
			t.Errorf("no %s in the span:\n%s", want, trace)
		}
	}
}

// What a client says can't make up log entries.
func TestLogInjection(t *testing.T) {
	s := start(t, "log\nwebsocket {\nsubprotocols chat\n}")
	const forged = `","closed_by":"admin"}` + "\n" + `{"level":"info","msg":"forged"}` + "\x1b[2J"
	p := s.dial(t, "http1", "/", "Origin", `https://a.example"}\n{"msg":"forged"}`)
	p.sendClose(4000, forged)
	p.expectClose(4000, forged)
	p.rw.Close()
	_, socket := s.lastAccess(t, 0)
	if socket["close_reason"] != forged || socket["closed_by"] != "client" {
		t.Errorf("the log has %v", socket)
	}
	if entries := s.logs.entries("forged"); len(entries) > 0 {
		t.Errorf("a client wrote %v", entries)
	}
	if strings.ContainsRune(s.logs.String(), '\x1b') {
		t.Error("an escape sequence is in the log as it is")
	}
}
