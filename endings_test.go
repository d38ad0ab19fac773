package caddywebsocket

import (
	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"io"
	"maps"
	"testing"
	"time"
)

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
	if e.code == 1006 && e.by != byKeepaliveTimeout && e.by != byLifetime {
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
		s.plan(0, ending{by: byAdmin, code: 4000, reason: "logged out"})
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
			client.send(ws.OpClose, "")
		}}},
		"client gone": {endOf: endOf{byClient, 1006, "", func(_ *server, client, _ *peer) {
			client.rw.Close()
		}}},
		"server": {endOf: endOf{byServer, 1002, "reserved opcode 15", func(_ *server, client, _ *peer) {
			client.write([]byte{0xff})
			client.expectClose(1002, "")
		}}},
		"keepalive timeout": {options: "keepalive 20ms 50ms", endOf: endOf{
			byKeepaliveTimeout, 1006, "",
			func(_ *server, client, _ *peer) { client.expectEndAfterPings() },
		}},
		"write timeout": {options: "write_timeout 100ms", endOf: endOf{byWriteTimeout, 1006, "", func(_ *server, client, _ *peer) {
			stall(client, clientFrame(ws.FinBit|byte(ws.OpBinary), make([]byte, 1<<20)))
		}}},
		"lifetime": {options: "max_lifetime 50ms", endOf: endOf{
			byLifetime, 1012, "",
			func(_ *server, client, _ *peer) {
				client.expectClose(1012, "")
				client.answerClose(1012)
			},
		}},
		"lifetime with a code": {options: "max_lifetime 50ms\nclose_code lifetime 4321", endOf: endOf{
			byLifetime, 4321, "",
			func(_ *server, client, _ *peer) {
				client.expectClose(4321, "")
				client.answerClose(4321)
			},
		}},
		"lifetime without a close frame": {options: "max_lifetime 50ms\nclose_code lifetime none", endOf: endOf{
			byLifetime, 1006, "", func(_ *server, client, _ *peer) { client.expectEnd() },
		}},
		"reload": {options: "close_delay 10ms", endOf: endOf{
			byReload, 1012, "",
			func(s *server, client, _ *peer) {
				s.reload(t, "", "log\nwebsocket {\nclose_delay 10ms\n}\nheader X-Config "+time.Now().Format(time.RFC3339Nano))
				client.expectClose(1012, "")
				client.answerClose(1012)
			},
		}},
		"admin": {endOf: endOf{byAdmin, 4000, "logged out", func(_ *server, client, _ *peer) {
			client.echo(ws.OpText, "hello") // it is registered after the answer
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

// A passthroughEnd is a way for a session in passthrough to end.
type passthroughEnd struct {
	options string
	endOf
}

// endsByPeers are those that the client and the application bring about.
func endsByPeers() map[string]passthroughEnd {
	return map[string]passthroughEnd{
		"client": {endOf: endOf{byClient, 4000, "done", func(_ *server, client, app *peer) {
			client.sendClose(4000, "done")
			app.expectMasked(ws.OpClose, string(ws.ClosePayload(4000, "done")))
			app.write(serverFrame(ws.FinBit|byte(ws.OpClose), string(ws.ClosePayload(4000, ""))))
			app.rw.Close()
		}}},
		"client gone": {endOf: endOf{byClient, 1006, "", func(_ *server, client, app *peer) {
			client.rw.Close()
			io.Copy(io.Discard, app.br)
		}}},
		"upstream": {endOf: endOf{byUpstream, 4001, "go", func(_ *server, client, app *peer) {
			app.write(serverFrame(ws.FinBit|byte(ws.OpClose), string(ws.ClosePayload(4001, "go"))))
			client.expectClose(4001, "go")
			client.answerClose(4001)
			app.rw.Close()
		}}},
		"upstream gone": {endOf: endOf{byUpstream, 1012, "", func(_ *server, client, app *peer) {
			app.write(serverFrame(ws.FinBit|byte(ws.OpText), "last words"))
			client.expect(ws.OpText, "last words")
			app.rw.Close()
			client.expectClose(1012, "")
			client.answerClose(1012)
		}}},
		"server": {options: "max_message_size 1000", endOf: endOf{
			byServer, 1009, "message over max_message_size",
			func(_ *server, client, _ *peer) {
				client.send(ws.OpBinary, letters(1001))
				client.expectClose(1009, "")
				client.answerClose(1009)
			},
		}},
	}
}

// endsByServer are the others.
func endsByServer(t *testing.T, u *upstream) map[string]passthroughEnd {
	t.Helper()
	return map[string]passthroughEnd{
		"keepalive timeout": {options: "keepalive 20ms 50ms", endOf: endOf{
			byKeepaliveTimeout, 1006, "",
			func(_ *server, client, _ *peer) { client.expectEndAfterPings() },
		}},
		"write timeout": {options: "write_timeout 100ms", endOf: endOf{byWriteTimeout, 1006, "", func(_ *server, _, app *peer) {
			stall(app, serverFrame(ws.FinBit|byte(ws.OpBinary), letters(1<<20)))
		}}},
		"lifetime": {options: "max_lifetime 50ms", endOf: endOf{
			byLifetime, 1012, "",
			func(_ *server, client, _ *peer) {
				client.expectClose(1012, "")
				client.answerClose(1012)
			},
		}},
		"reload": {endOf: endOf{byReload, 1012, "", func(s *server, client, app *peer) {
			client.send(ws.OpText, "hello") // reverse_proxy knows of a connection from when it copies
			app.expectMasked(ws.OpText, "hello")
			s.reload(t, "", "log\nwebsocket passthrough {\nallowed_origins *\n}\nrespond /no-socket 204\nreverse_proxy "+u.Addr().String()+
				" {\nstream_close_delay 1ms\n}\nheader X-Config "+time.Now().Format(time.RFC3339Nano))
			client.expectClose(1012, "")
			client.answerClose(1012)
		}}},
		"admin": {endOf: endOf{byAdmin, 4000, "logged out", func(_ *server, client, app *peer) {
			client.send(ws.OpText, "hello")
			app.expectMasked(ws.OpText, "hello")
			adminClose()
			client.expectClose(4000, "logged out")
			app.expectMasked(ws.OpClose, string(ws.ClosePayload(4000, "logged out")))
			client.answerClose(4000)
		}}},
	}
}

func TestEndsOfPassthrough(t *testing.T) {
	u := listenUpstream(t)
	ends := endsByPeers()
	maps.Copy(ends, endsByServer(t, u))
	for name, c := range ends {
		t.Run(name, func(t *testing.T) {
			s := start(t, "log\nwebsocket passthrough {\nallowed_origins *\n"+c.options+"\n}\nrespond /no-socket 204\nreverse_proxy "+u.Addr().String()+" {\nstream_close_delay 1ms\n}")
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
		p.dial(t, protocol, "/echo").echo(ws.OpText, "hello")
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
		if socket["closed_by"] != string(byShutdown) || socket["close_code"] != 1012.0 {
			t.Errorf("%v %v: closed by %v with %v, want by %s with 1012",
				e["status"], socket["mode"], socket["closed_by"], socket["close_code"], byShutdown)
		}
	}
}

// With grace_period, Caddy ends the HTTP/3 connections of an earlier config.
func TestEndByGracePeriod(t *testing.T) {
	s := startGlobal(t, "grace_period 50ms", "log\nwebsocket")
	p := s.dial(t, "http3", "/")
	p.echo(ws.OpText, "hello")
	s.reload(t, "grace_period 50ms", "log\nwebsocket\nheader X-Config new")
	p.expectEnd()
	_, socket := s.lastAccess(t, 0)
	if socket["closed_by"] != string(byReload) || socket["close_code"] != 1006.0 {
		t.Errorf("closed by %v with %v (%v), want by %s with 1006", socket["closed_by"], socket["close_code"], socket["error"], byReload)
	}
}
