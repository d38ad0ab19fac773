package e2e

import (
	"io"
	"maps"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// An endOf is a way for a session to end.
type endOf struct {
	by     string
	code   int
	reason string
	// client and, in passthrough, app bring it about.
	do func(s *wstest.Server, client, app *wstest.Peer)
}

// check makes sure that the session that client has is reported to end so.
func (e endOf) check(t *testing.T, s *wstest.Server, client, app *wstest.Peer) {
	t.Helper()
	before := len(s.Logs.Entries("handled request"))
	e.do(s, client, app)
	if client.Name == "http1" || client.Name == "tls" {
		client.Conn.Close() // the server waits for that
	}
	if app != nil {
		app.Conn.Close()
	}
	_, socket := s.LastAccess(t, before)
	if socket["closed_by"] != e.by || socket["close_code"] != float64(e.code) {
		t.Errorf("closed by %v with %v, want by %s with %d", socket["closed_by"], socket["close_code"], e.by, e.code)
	}
	if e.code == 1006 && e.by != "keepalive_timeout" && e.by != "lifetime" {
		if socket["error"] == nil || socket["close_reason"] != nil {
			t.Errorf("error %v, close reason %v, want only an error", socket["error"], socket["close_reason"])
		}
	} else if reason, _ := socket["close_reason"].(string); reason != e.reason {
		t.Errorf("close reason %q, want %q", reason, e.reason)
	}
	client.Conn.Close()
}

// hardTimeouts are Caddy's own limits on whole requests.
const hardTimeouts = "servers {\ntimeouts {\nread_body 300ms\n}\n}"

func TestEndsOfEcho(t *testing.T) {
	for name, c := range map[string]struct {
		global, options string
		endOf
	}{
		"client": {endOf: endOf{"client", 4000, "done", func(_ *wstest.Server, client, _ *wstest.Peer) {
			client.SendClose(4000, "done")
		}}},
		"client without a code": {endOf: endOf{"client", 1005, "", func(_ *wstest.Server, client, _ *wstest.Peer) {
			client.Send(ws.OpClose, "")
		}}},
		"client gone": {endOf: endOf{"client", 1006, "", func(_ *wstest.Server, client, _ *wstest.Peer) {
			client.Conn.Close()
		}}},
		"server": {endOf: endOf{"server", 1002, "reserved opcode 15", func(_ *wstest.Server, client, _ *wstest.Peer) {
			client.WriteRaw([]byte{0xff})
			client.ExpectClose(1002, "")
		}}},
		"keepalive timeout": {options: "keepalive 20ms 50ms", endOf: endOf{
			"keepalive_timeout", 1006, "",
			func(_ *wstest.Server, client, _ *wstest.Peer) { client.ExpectEndAfterPings() },
		}},
		"write timeout": {options: "write_timeout 100ms", endOf: endOf{"write_timeout", 1006, "", func(_ *wstest.Server, client, _ *wstest.Peer) {
			wstest.Stall(client, wstest.ClientFrame(ws.FinBit|byte(ws.OpBinary), make([]byte, 1<<20)))
		}}},
		"lifetime": {options: "max_lifetime 50ms", endOf: endOf{
			"lifetime", 1012, "",
			func(_ *wstest.Server, client, _ *wstest.Peer) {
				client.ExpectClose(1012, "")
				client.AnswerClose(1012)
			},
		}},
		"lifetime with a code": {options: "max_lifetime 50ms\nclose_code lifetime 4321", endOf: endOf{
			"lifetime", 4321, "",
			func(_ *wstest.Server, client, _ *wstest.Peer) {
				client.ExpectClose(4321, "")
				client.AnswerClose(4321)
			},
		}},
		"lifetime without a close frame": {options: "max_lifetime 50ms\nclose_code lifetime none", endOf: endOf{
			"lifetime", 1006, "", func(_ *wstest.Server, client, _ *wstest.Peer) { client.ExpectEnd() },
		}},
		"reload": {options: "close_delay 10ms", endOf: endOf{
			"reload", 1012, "",
			func(s *wstest.Server, client, _ *wstest.Peer) {
				s.Reload(t, "", "log\nwebsocket {\nclose_delay 10ms\n}\nheader X-Config "+time.Now().Format(time.RFC3339Nano))
				client.ExpectClose(1012, "")
				client.AnswerClose(1012)
			},
		}},
		"admin": {endOf: endOf{"admin", 4000, "logged out", func(_ *wstest.Server, client, _ *wstest.Peer) {
			client.Echo(ws.OpText, "hello") // it is registered after the answer
			wstest.CloseAll(t)
			client.ExpectClose(4000, "logged out")
			client.AnswerClose(4000)
		}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := wstest.StartGlobal(t, c.global, "log\nwebsocket {\n"+c.options+"\n}\n")
			for _, protocol := range wstest.Protocols {
				t.Run(protocol, func(t *testing.T) { c.check(t, s, s.Dial(t, protocol, "/"), nil) })
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
		"client": {endOf: endOf{"client", 4000, "done", func(_ *wstest.Server, client, app *wstest.Peer) {
			client.SendClose(4000, "done")
			app.ExpectMasked(ws.OpClose, string(ws.ClosePayload(4000, "done")))
			app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpClose), string(ws.ClosePayload(4000, ""))))
			app.Conn.Close()
		}}},
		"client gone": {endOf: endOf{"client", 1006, "", func(_ *wstest.Server, client, app *wstest.Peer) {
			client.Conn.Close()
			io.Copy(io.Discard, app.Reader)
		}}},
		"upstream": {endOf: endOf{"upstream", 4001, "go", func(_ *wstest.Server, client, app *wstest.Peer) {
			app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpClose), string(ws.ClosePayload(4001, "go"))))
			client.ExpectClose(4001, "go")
			client.AnswerClose(4001)
			app.Conn.Close()
		}}},
		"upstream gone": {endOf: endOf{"upstream", 1012, "", func(_ *wstest.Server, client, app *wstest.Peer) {
			app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpText), "last words"))
			client.Expect(ws.OpText, "last words")
			app.Conn.Close()
			client.ExpectClose(1012, "")
			client.AnswerClose(1012)
		}}},
		"server": {options: "max_message_size 1000", endOf: endOf{
			"server", 1009, "message over max_message_size",
			func(_ *wstest.Server, client, _ *wstest.Peer) {
				client.Send(ws.OpBinary, wstest.Letters(1001))
				client.ExpectClose(1009, "")
				client.AnswerClose(1009)
			},
		}},
	}
}

// endsByServer are the others.
func endsByServer(t *testing.T, u *wstest.Upstream) map[string]passthroughEnd {
	t.Helper()
	return map[string]passthroughEnd{
		"keepalive timeout": {options: "keepalive 20ms 50ms", endOf: endOf{
			"keepalive_timeout", 1006, "",
			func(_ *wstest.Server, client, _ *wstest.Peer) { client.ExpectEndAfterPings() },
		}},
		"write timeout": {options: "write_timeout 100ms", endOf: endOf{"write_timeout", 1006, "", func(_ *wstest.Server, _, app *wstest.Peer) {
			wstest.Stall(app, wstest.ServerFrame(ws.FinBit|byte(ws.OpBinary), wstest.Letters(1<<20)))
		}}},
		"lifetime": {options: "max_lifetime 50ms", endOf: endOf{
			"lifetime", 1012, "",
			func(_ *wstest.Server, client, _ *wstest.Peer) {
				client.ExpectClose(1012, "")
				client.AnswerClose(1012)
			},
		}},
		"reload": {endOf: endOf{"reload", 1012, "", func(s *wstest.Server, client, app *wstest.Peer) {
			client.Send(ws.OpText, "hello") // reverse_proxy knows of a connection from when it copies
			app.ExpectMasked(ws.OpText, "hello")
			s.Reload(t, "", "log\nwebsocket passthrough {\nallowed_origins *\n}\nrespond /no-socket 204\nreverse_proxy "+u.Addr().String()+
				" {\nstream_close_delay 1ms\n}\nheader X-Config "+time.Now().Format(time.RFC3339Nano))
			client.ExpectClose(1012, "")
			client.AnswerClose(1012)
		}}},
		"admin": {endOf: endOf{"admin", 4000, "logged out", func(_ *wstest.Server, client, app *wstest.Peer) {
			client.Send(ws.OpText, "hello")
			app.ExpectMasked(ws.OpText, "hello")
			wstest.CloseAll(t)
			client.ExpectClose(4000, "logged out")
			app.ExpectMasked(ws.OpClose, string(ws.ClosePayload(4000, "logged out")))
			client.AnswerClose(4000)
		}}},
	}
}

func TestEndsOfPassthrough(t *testing.T) {
	u := wstest.ListenUpstream(t)
	ends := endsByPeers()
	maps.Copy(ends, endsByServer(t, u))
	for name, c := range ends {
		t.Run(name, func(t *testing.T) {
			s := wstest.Start(t, "log\nwebsocket passthrough {\nallowed_origins *\n"+c.options+"\n}\nrespond /no-socket 204\nreverse_proxy "+u.Addr().String()+" {\nstream_close_delay 1ms\n}")
			for _, protocol := range wstest.Protocols {
				t.Run(protocol, func(t *testing.T) {
					client, app := u.For(t).Tunnel(s, protocol)
					c.check(t, s, client, app)
				})
			}
		})
	}
}

// Caddy's hard timeouts, which are for whole requests, end sockets on HTTP/2 and
// HTTP/3. That is nobody's doing.
func TestEndByHardTimeout(t *testing.T) {
	u := wstest.ListenUpstream(t)
	s := wstest.StartGlobal(t, hardTimeouts, "log\nwebsocket /echo\nwebsocket passthrough {\nallowed_origins *\n}\nrespond /no-socket 204\nreverse_proxy "+u.Addr().String())
	wait := endOf{"error", 1006, "", func(_ *wstest.Server, client, _ *wstest.Peer) { client.ExpectEnd() }}
	for _, protocol := range []string{"http2", "http3"} {
		t.Run(protocol, func(t *testing.T) {
			wait.check(t, s, s.Dial(t, protocol, "/echo"), nil)
			client, app := u.For(t).Tunnel(s, protocol)
			wait.check(t, s, client, app)
		})
	}
}

// The exit is told of in the access log, too.
func TestEndByShutdown(t *testing.T) {
	t.Parallel()
	u := wstest.ListenUpstream(t)
	p := wstest.StartProcess(t, "", "log\nwebsocket /echo\nwebsocket passthrough {\nallowed_origins *\n}\nrespond /no-socket 204\nreverse_proxy "+u.Addr().String())
	for _, protocol := range wstest.Protocols {
		p.Dial(t, protocol, "/echo").Echo(ws.OpText, "hello")
		u.Tunnel(&p.Server, protocol)
	}
	before := len(p.Logs.Entries("handled request"))
	p.Terminate(t)
	p.ExpectExit(t)
	entries := p.Logs.Entries("handled request")[before:]
	if len(entries) != 2*len(wstest.Protocols) {
		t.Errorf("%d sockets in the access log, want %d", len(entries), 2*len(wstest.Protocols))
	}
	for _, e := range entries {
		socket, _ := e["websocket"].(map[string]any)
		if socket["closed_by"] != string("shutdown") || socket["close_code"] != 1012.0 {
			t.Errorf("%v %v: closed by %v with %v, want by %s with 1012",
				e["status"], socket["mode"], socket["closed_by"], socket["close_code"], "shutdown")
		}
	}
}

// With grace_period, Caddy ends the HTTP/3 connections of an earlier config.
func TestEndByGracePeriod(t *testing.T) {
	s := wstest.StartGlobal(t, "grace_period 50ms", "log\nwebsocket")
	p := s.Dial(t, "http3", "/")
	p.Echo(ws.OpText, "hello")
	s.Reload(t, "grace_period 50ms", "log\nwebsocket\nheader X-Config new")
	p.ExpectEnd()
	_, socket := s.LastAccess(t, 0)
	if socket["closed_by"] != string("reload") || socket["close_code"] != 1006.0 {
		t.Errorf("closed by %v with %v (%v), want by %s with 1006", socket["closed_by"], socket["close_code"], socket["error"], "reload")
	}
}
