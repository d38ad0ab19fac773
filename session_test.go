package caddywebsocket

import (
	"bytes"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/seed-21dbdb71/caddy-websocket/internal/stream"
	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

func TestStalledWriteIsCut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := pipe(t, new(Handler))
		start := time.Now()
		p.Send(ws.OpText, "echo that nobody reads")
		synctest.Wait()
		// Writing finds out, reading would unblock the server.
		if _, err := p.Conn.Write(make([]byte, 1<<20)); err == nil {
			t.Error("the socket is still open")
		}
		if waited := time.Since(start); waited < 10*time.Second || waited > 11250*time.Millisecond {
			t.Errorf("cut after %v, want 10s, or an eighth more", waited)
		}
	})
}

func TestSlowReaderIsNotCut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := pipe(t, new(Handler))
		message := bytes.Repeat([]byte("x"), 200)
		p.Send(ws.OpBinary, string(message))
		// One byte each nine seconds: half an hour for a write that never stalls.
		var got []byte
		for range 4 + len(message) {
			time.Sleep(9 * time.Second)
			var b [1]byte
			if _, err := p.Conn.Read(b[:]); err != nil {
				t.Fatalf("after %d bytes: %v", len(got), err)
			}
			got = append(got, b[0])
		}
		if !bytes.HasSuffix(got, message) {
			t.Errorf("got %q", got)
		}
	})
}

// While a write stalls nobody listens to the client, and that time is not held
// against it.
func TestSilenceDuringAWriteDoesNotCount(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := pipe(t, new(Handler))
		p.Send(ws.OpBinary, strings.Repeat("x", 200))
		for range 204 {
			time.Sleep(9 * time.Second)
			if _, err := io.ReadFull(p.Conn, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		p.ExpectPing()
		p.ExpectPingAt(2 * time.Minute)
		time.Sleep(time.Minute) // three in all, less than the timeout
		p.Echo(ws.OpText, "alive")
		p.CloseNormally()
	})
}

func TestLifetime(t *testing.T) {
	ends := make(map[time.Duration]bool)
	for range 20 {
		bubble(t, func(t *testing.T) {
			start := time.Now()
			p := pipe(t, &Handler{KeepaliveInterval: -1, MaxLifetime: caddy.Duration(time.Hour)})
			p.ExpectClose(1012, "")
			lived := time.Since(start)
			if lived < 54*time.Minute || lived > time.Hour {
				t.Errorf("lived %v, want between 54m and 1h", lived)
			}
			ends[lived] = true
			p.SendClose(1012, "")
			p.ExpectEnd()
		})
	}
	if len(ends) < 2 {
		t.Error("all sockets ended at once")
	}
}

func TestCloseWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := pipe(t, &Handler{MaxLifetime: caddy.Duration(time.Minute)})
		p.ExpectClose(1012, "")
		// What still comes is not echoed, and doesn't prolong the wait.
		closed := time.Now()
		p.Send(ws.OpText, "too late")
		p.WriteRaw(wstest.ClientFrame(byte(ws.OpBinary), []byte("and unfinished")))
		p.Send(ws.OpPing, "too late, too")
		p.ExpectEnd()
		if waited := time.Since(closed); waited != closeWait {
			t.Errorf("waited %v for the answer to a close frame, want %v", waited, closeWait)
		}
	})
}

func TestCloseAnswered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := pipe(t, &Handler{MaxLifetime: caddy.Duration(time.Minute)})
		p.WriteRaw(wstest.ClientFrame(byte(ws.OpText), []byte("half a message")))
		p.ExpectClose(1012, "")
		closed := time.Now()
		p.WriteRaw(wstest.ClientFrame(ws.FinBit, []byte("and the other half")))
		p.SendClose(1012, "")
		p.ExpectEnd()
		if waited := time.Since(closed); waited != 0 {
			t.Errorf("the end came %v after the client's close frame", waited)
		}
	})
}

func TestCloseDuringStalledWrite(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := pipe(t, &Handler{
			KeepaliveInterval: -1,
			WriteTimeout:      caddy.Duration(time.Hour),
			MaxLifetime:       caddy.Duration(time.Minute),
		})
		p.Send(ws.OpText, "echo that nobody reads")
		start := time.Now()
		p.Conn.Write(make([]byte, 1<<20))
		if waited := time.Since(start); waited > time.Minute+closeWait+cutInterval {
			t.Errorf("a stalled write held the end up for %v", waited)
		}
	})
}

func TestCloseFrameStandsBetweenFrames(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := pipe(t, &Handler{
			KeepaliveInterval: -1,
			WriteTimeout:      caddy.Duration(time.Hour),
			MaxLifetime:       caddy.Duration(20 * time.Second),
		})
		p.Send(ws.OpText, "echo that is read late")
		time.Sleep(20500 * time.Millisecond) // past the lifetime, within closeWait of its last tenth
		p.Expect(ws.OpText, "echo that is read late")
		p.ExpectClose(1012, "")
		p.SendClose(1012, "")
		p.ExpectEnd()
	})
}

func TestCloseDelay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &Handler{CloseDelay: caddy.Duration(time.Hour)}
		p := pipe(t, h)
		start := time.Now()
		if err := h.Cleanup(); err != nil {
			t.Fatal(err)
		}
		p.Echo(ws.OpText, "lives on")
		p.ExpectPingAt(2 * time.Minute) // and is looked after
		p.Send(ws.OpPong, "")
		for range 20 {
			p.ExpectPingAt(2 * time.Minute)
			p.Send(ws.OpPong, "")
		}
		for p.NextIsPing() {
			p.Send(ws.OpPong, p.ExpectPing())
		}
		p.ExpectClose(1012, "")
		if lived := time.Since(start); lived < 54*time.Minute || lived > time.Hour {
			t.Errorf("outlived its config by %v, want between 54m and 1h", lived)
		}
		p.SendClose(1012, "")
		p.ExpectEnd()
		time.Sleep(exitPoll) // until the registry has seen that there is nothing left to watch
		synctest.Wait()
	})
}

func TestClientGone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := pipe(t, new(Handler))
		frame := wstest.ClientFrame(ws.FinBit|byte(ws.OpText), []byte("never finished"))
		p.WriteRaw(frame[:len(frame)-1])
		p.Conn.Close()
		synctest.Wait()
		sessions.mu.Lock()
		defer sessions.mu.Unlock()
		if n := len(sessions.byID); n != 0 {
			t.Errorf("%d sessions are open", n)
		}
	})
}

// howEnded returns how a session ends, if that is decided.
func howEnded(s *session) ending {
	_, e := s.current()
	return e
}

// pipe opens a socket of handler h over a net.Pipe. In a synctest bubble, where
// it is meant to be used, time passes when all are waiting, and the test fails
// if a goroutine is left in the end.
func pipe(t *testing.T, h *Handler) *wstest.Peer {
	t.Helper()
	server, client := net.Pipe()
	return pipeOver(t, h, server, client)
}

// pipeOver is pipe with the two ends given.
func pipeOver(t *testing.T, h *Handler, server, client net.Conn) *wstest.Peer {
	t.Helper()
	provision(t, h)
	return pipeSession(t, newSession(h, httptest.NewRequest("GET", "/", nil)), server, client)
}

// provision does for h what loading a config does.
func provision(t testing.TB, h *Handler) {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	if err := h.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.Validate(); err != nil {
		t.Fatal(err)
	}
	h.logger = zap.NewNop()
}

// pipeSession has s echo over the ends of a pipe.
func pipeSession(t *testing.T, s *session, server, client net.Conn) *wstest.Peer {
	t.Helper()
	a := &accepted{stream: stream.NewConn(server, server, nil, time.Duration(s.handler.WriteTimeout))}
	if s.handler.Compression == "on" {
		a.deflate = new(ws.Deflate)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer s.finish()
		s.echo(s.beginEcho(a))
	}()
	t.Cleanup(func() {
		client.Close()
		<-done
	})
	return wstest.NewPeer(t, "pipe", client)
}

// bubble runs f in a synctest bubble, and what it leaves for Cleanup, too.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	awaitNoSessions(t)
	synctest.Test(t, f)
}

// awaitNoSessions waits until what earlier tests have opened is closed, for tests that
// look at all sessions of the process.
func awaitNoSessions(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(wstest.Timeout)
	for len(sessions.list()) > 0 {
		if time.Now().After(deadline) {
			t.Fatal("sessions of an earlier test are still open")
		}
		time.Sleep(time.Millisecond)
	}
}
