package caddywebsocket

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// lastAccess waits for one more access log entry than there were before and
// gives it, and its websocket object.
func (s *server) lastAccess(t *testing.T, before int) (entry, socket map[string]any) {
	t.Helper()
	entries := s.logs.await(t, "handled request", before+1)
	entry = entries[len(entries)-1]
	socket, _ = entry["websocket"].(map[string]any)
	if socket == nil {
		t.Fatalf("no websocket object in %v", entry)
	}
	return entry, socket
}

// An endOf is a way for a session to end.
type endOf struct {
	by     cause
	code   int
	reason string
	// client and, in passthrough, app bring it about.
	do func(s *server, client, app *peer)
}

// check makes sure that the session that client has is reported to end so.
func (e endOf) check(t *testing.T, s *server, client, app *peer) {
	t.Helper()
	before := len(s.logs.entries("handled request"))
	e.do(s, client, app)
	if client.name == "http1" || client.name == "tls" {
		client.rw.Close() // the server waits for that
	}
	if app != nil {
		app.rw.Close()
	}
	_, socket := s.lastAccess(t, before)
	if socket["closed_by"] != string(e.by) || socket["close_code"] != float64(e.code) {
		t.Errorf("closed by %v with %v, want by %s with %d", socket["closed_by"], socket["close_code"], e.by, e.code)
	}
	if e.code == 1006 {
		if socket["error"] == nil || socket["close_reason"] != nil {
			t.Errorf("error %v, close reason %v, want only an error", socket["error"], socket["close_reason"])
		}
	} else if reason, _ := socket["close_reason"].(string); reason != e.reason {
		t.Errorf("close reason %q, want %q", reason, e.reason)
	}
	client.rw.Close()
}

// adminClose closes all open sessions as an administrator would.
func adminClose() {
	for _, s := range sessions.find(nil) {
		s.plan(0, ending{byAdmin, 4000, "logged out"})
	}
}

// stall writes until that fails.
func stall(p *peer, block []byte) {
	for {
		if _, err := p.rw.Write(block); err != nil {
			return
		}
	}
}

// hardTimeouts are Caddy's own limits on whole requests.
const hardTimeouts = "servers {\ntimeouts {\nread_body 300ms\n}\n}"

func TestEndsOfEcho(t *testing.T) {
	for name, c := range map[string]struct {
		global, options string
		endOf
	}{
		"client": {endOf: endOf{byClient, 4000, "done", func(_ *server, client, _ *peer) {
			client.sendClose(4000, "done")
		}}},
		"client without a code": {endOf: endOf{byClient, 1005, "", func(_ *server, client, _ *peer) {
			client.send(opClose, "")
		}}},
		"client gone": {endOf: endOf{byClient, 1006, "", func(_ *server, client, _ *peer) {
			client.rw.Close()
		}}},
		"server": {endOf: endOf{byServer, 1002, "reserved opcode 15", func(_ *server, client, _ *peer) {
			client.write([]byte{0xff})
			client.expectClose(1002, "")
		}}},
		"keepalive timeout": {options: "keepalive 20ms 50ms", endOf: endOf{
			byKeepaliveTimeout, 1001, "keepalive timeout",
			func(_ *server, client, _ *peer) { client.expectCloseAfterPings(1001, "") },
		}},
		"write timeout": {options: "write_timeout 100ms", endOf: endOf{byWriteTimeout, 1006, "", func(_ *server, client, _ *peer) {
			stall(client, clientFrame(finBit|byte(opBinary), make([]byte, 1<<20)))
		}}},
		"lifetime": {options: "max_lifetime 50ms", endOf: endOf{
			byLifetime, 1001, "end of the socket's lifetime",
			func(_ *server, client, _ *peer) {
				client.expectClose(1001, "")
				client.answerClose(1001)
			},
		}},
		"reload": {options: "close_delay 10ms", endOf: endOf{
			byReload, 1001, "configuration reloaded",
			func(s *server, client, _ *peer) {
				s.reload(t, "", "log\nwebsocket {\nclose_delay 10ms\n}\nheader X-Config "+time.Now().Format(time.RFC3339Nano))
				client.expectClose(1001, "")
				client.answerClose(1001)
			},
		}},
		"admin": {endOf: endOf{byAdmin, 4000, "logged out", func(_ *server, client, _ *peer) {
			client.echo(opText, "hello") // it is registered after the answer
			adminClose()
			client.expectClose(4000, "logged out")
			client.answerClose(4000)
		}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := startGlobal(t, c.global, "log\nwebsocket {\n"+c.options+"\n}\n")
			for _, protocol := range protocols {
				t.Run(protocol, func(t *testing.T) { c.check(t, s, s.dial(t, protocol, "/"), nil) })
			}
		})
	}
}

func TestEndsOfPassthrough(t *testing.T) {
	u := listenUpstream(t)
	for name, c := range map[string]struct {
		options string
		endOf
	}{
		"client": {endOf: endOf{byClient, 4000, "done", func(_ *server, client, app *peer) {
			client.sendClose(4000, "done")
			app.expectMasked(opClose, string(closePayload(4000, "done")))
			app.write(serverFrame(finBit|byte(opClose), string(closePayload(4000, ""))))
			app.rw.Close()
		}}},
		"client gone": {endOf: endOf{byClient, 1006, "", func(_ *server, client, app *peer) {
			client.rw.Close()
			io.Copy(io.Discard, app.br)
		}}},
		"upstream": {endOf: endOf{byUpstream, 4001, "go", func(_ *server, client, app *peer) {
			app.write(serverFrame(finBit|byte(opClose), string(closePayload(4001, "go"))))
			client.expectClose(4001, "go")
			client.answerClose(4001)
			app.rw.Close()
		}}},
		"upstream gone": {endOf: endOf{byUpstream, 1011, "upstream connection lost", func(_ *server, client, app *peer) {
			app.write(serverFrame(finBit|byte(opText), "last words"))
			client.expect(opText, "last words")
			app.rw.Close()
			client.expectClose(1011, "")
			client.answerClose(1011)
		}}},
		"server": {options: "max_message_size 1000", endOf: endOf{
			byServer, 1009, "message over max_message_size",
			func(_ *server, client, _ *peer) {
				client.send(opBinary, letters(1001))
				client.expectClose(1009, "")
				client.answerClose(1009)
			},
		}},
		"keepalive timeout": {options: "keepalive 20ms 50ms", endOf: endOf{
			byKeepaliveTimeout, 1001, "keepalive timeout",
			func(_ *server, client, _ *peer) { client.expectCloseAfterPings(1001, "") },
		}},
		"write timeout": {options: "write_timeout 100ms", endOf: endOf{byWriteTimeout, 1006, "", func(_ *server, _, app *peer) {
			stall(app, serverFrame(finBit|byte(opBinary), letters(1<<20)))
		}}},
		"lifetime": {options: "max_lifetime 50ms", endOf: endOf{
			byLifetime, 1001, "end of the socket's lifetime",
			func(_ *server, client, _ *peer) {
				client.expectClose(1001, "")
				client.answerClose(1001)
			},
		}},
		"reload": {endOf: endOf{byReload, 1001, "configuration reloaded", func(s *server, client, app *peer) {
			client.send(opText, "hello") // reverse_proxy knows of a connection from when it copies
			app.expectMasked(opText, "hello")
			s.reload(t, "", "log\nwebsocket passthrough {\nallowed_origins *\n}\nrespond /no-socket 204\nreverse_proxy "+u.Addr().String()+
				"\nheader X-Config "+time.Now().Format(time.RFC3339Nano))
			client.expectClose(1001, "configuration reloaded")
			client.answerClose(1001)
		}}},
		"admin": {endOf: endOf{byAdmin, 4000, "logged out", func(_ *server, client, app *peer) {
			client.send(opText, "hello")
			app.expectMasked(opText, "hello")
			adminClose()
			client.expectClose(4000, "logged out")
			app.expectMasked(opClose, string(closePayload(4000, "logged out")))
			client.answerClose(4000)
		}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, "log\nwebsocket passthrough {\nallowed_origins *\n"+c.options+"\n}\nrespond /no-socket 204\nreverse_proxy "+u.Addr().String())
			for _, protocol := range protocols {
				t.Run(protocol, func(t *testing.T) {
					client, app := (&upstream{u.Listener, t}).tunnel(s, protocol)
					c.check(t, s, client, app)
				})
			}
		})
	}
}

// Caddy's hard timeouts, which are for whole requests, end sockets on HTTP/2 and
// HTTP/3. That is nobody's doing.
func TestEndByHardTimeout(t *testing.T) {
	u := listenUpstream(t)
	s := startGlobal(t, hardTimeouts, "log\nwebsocket /echo\nwebsocket passthrough {\nallowed_origins *\n}\nrespond /no-socket 204\nreverse_proxy "+u.Addr().String())
	wait := endOf{byError, 1006, "", func(_ *server, client, _ *peer) { client.expectEnd() }}
	for _, protocol := range []string{"http2", "http3"} {
		t.Run(protocol, func(t *testing.T) {
			wait.check(t, s, s.dial(t, protocol, "/echo"), nil)
			client, app := (&upstream{u.Listener, t}).tunnel(s, protocol)
			wait.check(t, s, client, app)
		})
	}
}

// The exit is told of in the access log, too.
func TestEndByShutdown(t *testing.T) {
	u := listenUpstream(t)
	p := startProcess(t, "", "log\nwebsocket /echo\nwebsocket passthrough {\nallowed_origins *\n}\nrespond /no-socket 204\nreverse_proxy "+u.Addr().String())
	p.logs = p.stderr
	for _, protocol := range protocols {
		p.dial(t, protocol, "/echo").echo(opText, "hello")
		u.tunnel(&p.server, protocol)
	}
	before := len(p.logs.entries("handled request"))
	p.terminate(t)
	p.expectExit(t)
	entries := p.logs.entries("handled request")[before:]
	if len(entries) != 2*len(protocols) {
		t.Errorf("%d sockets in the access log, want %d", len(entries), 2*len(protocols))
	}
	for _, e := range entries {
		socket, _ := e["websocket"].(map[string]any)
		if socket["closed_by"] != string(byShutdown) || socket["close_code"] != 1001.0 {
			t.Errorf("%v %v: closed by %v with %v, want by %s with 1001",
				e["status"], socket["mode"], socket["closed_by"], socket["close_code"], byShutdown)
		}
	}
}

// A frameLog adds up frames as they are on the wire.
type frameLog struct{ bytes int }

func (l *frameLog) add(frame []byte) []byte {
	l.bytes += len(frame)
	return frame
}

// The access log has one entry for a socket, with everything in it.
func TestAccessLog(t *testing.T) {
	const secret = "what nobody else must see"
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
					client, app = (&upstream{u.Listener, t}).tunnel(s, protocol, header...)
				}
				before := len(s.logs.entries("handled request"))
				var in, out frameLog
				message := secret + letters(5000)
				client.write(in.add(clientFrame(byte(opText), []byte(message[:3000]))))
				client.write(in.add(clientFrame(finBit, []byte(message[3000:]))))
				if app != nil {
					app.readMasked()
					app.readMasked()
					app.write(serverFrame(finBit|byte(opText), message))
				}
				client.expect(opText, message)
				out.add(serverFrame(finBit|byte(opText), message))
				client.write(in.add(clientFrame(finBit|byte(opClose), closePayload(1000, "bye"))))
				if app != nil {
					app.expectMasked(opClose, string(closePayload(1000, "bye")))
					app.write(serverFrame(finBit|byte(opClose), string(closePayload(1000, "bye"))))
					app.rw.Close()
				}
				client.expectClose(1000, "bye")
				out.add(serverFrame(finBit|byte(opClose), string(closePayload(1000, "bye"))))
				client.expectEnd()
				client.rw.Close()

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
					"id": id, "mode": mode, "compression": false, "origin": "https://example.com",
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
	frame := clientFrame(finBit|rsv1Bit|byte(opText), message)
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
		app.write(serverFrame(finBit|rsv1Bit|byte(opText), string(message)))
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

// eventLog is an event handler that keeps what it was told.
type eventLog struct{}

var events struct {
	mu   sync.Mutex
	told []caddy.Event
}

func (eventLog) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.test", New: func() caddy.Module { return new(eventLog) }}
}

func (eventLog) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	return nil
}

func (eventLog) Handle(_ context.Context, e caddy.Event) error {
	events.mu.Lock()
	defer events.mu.Unlock()
	events.told = append(events.told, e)
	return nil
}

func init() { caddy.RegisterModule(eventLog{}) }

func TestEvents(t *testing.T) {
	s := startGlobal(t, "events {\non websocket_open test\non websocket_close test\n}", "websocket")
	events.told = nil
	p := s.dial(t, "http2", "/some/path")
	p.echo(opText, "hello")
	s.reload(t, "", "websocket\nheader X-Config new")
	p.bye() // the handlers of its own config are told
	s.logs.await(t, "socket closed", 1)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		events.mu.Lock()
		n := len(events.told)
		events.mu.Unlock()
		if n >= 2 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	events.mu.Lock()
	defer events.mu.Unlock()
	if len(events.told) != 2 {
		t.Fatalf("%d events, want 2", len(events.told))
	}
	opened, closed := events.told[0], events.told[1]
	if opened.Name() != "websocket_open" || closed.Name() != "websocket_close" || opened.Data["id"] != closed.Data["id"] {
		t.Errorf("events %s of %v, %s of %v", opened.Name(), opened.Data["id"], closed.Name(), closed.Data["id"])
	}
	for name, want := range map[string]any{
		"mode": "echo", "path": "/some/path", "proto": "HTTP/2.0", "client_ip": "127.0.0.1",
		"close_code": int64(1000), "closed_by": "client", "messages_received": int64(1),
	} {
		if closed.Data[name] != want {
			t.Errorf("%s is %v, want %v", name, closed.Data[name], want)
		}
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

// With grace_period, Caddy ends the HTTP/3 connections of an earlier config.
func TestEndByGracePeriod(t *testing.T) {
	s := startGlobal(t, "grace_period 50ms", "log\nwebsocket")
	p := s.dial(t, "http3", "/")
	p.echo(opText, "hello")
	s.reload(t, "grace_period 50ms", "log\nwebsocket\nheader X-Config new")
	p.expectEnd()
	_, socket := s.lastAccess(t, 0)
	if socket["closed_by"] != string(byReload) || socket["close_code"] != 1006.0 {
		t.Errorf("closed by %v with %v (%v), want by %s with 1006", socket["closed_by"], socket["close_code"], socket["error"], byReload)
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
