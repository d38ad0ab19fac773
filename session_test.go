package caddywebsocket

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

func TestStalledWriteIsCut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := pipe(t, new(Handler))
		start := time.Now()
		p.send(ws.OpText, "echo that nobody reads")
		synctest.Wait()
		// Writing finds out, reading would unblock the server.
		if _, err := p.rw.Write(make([]byte, 1<<20)); err == nil {
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
		p.send(ws.OpBinary, string(message))
		// One byte each nine seconds: half an hour for a write that never stalls.
		var got []byte
		for range 4 + len(message) {
			time.Sleep(9 * time.Second)
			var b [1]byte
			if _, err := p.rw.Read(b[:]); err != nil {
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
		p.send(ws.OpBinary, strings.Repeat("x", 200))
		for range 204 {
			time.Sleep(9 * time.Second)
			if _, err := io.ReadFull(p.rw, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		p.expectPing()
		p.expectPingAt(2 * time.Minute)
		time.Sleep(time.Minute) // three in all, less than the timeout
		p.echo(ws.OpText, "alive")
		p.bye()
	})
}

func TestLifetime(t *testing.T) {
	ends := make(map[time.Duration]bool)
	for range 20 {
		bubble(t, func(t *testing.T) {
			start := time.Now()
			p := pipe(t, &Handler{KeepaliveInterval: -1, MaxLifetime: caddy.Duration(time.Hour)})
			p.expectClose(1012, "")
			lived := time.Since(start)
			if lived < 54*time.Minute || lived > time.Hour {
				t.Errorf("lived %v, want between 54m and 1h", lived)
			}
			ends[lived] = true
			p.sendClose(1012, "")
			p.expectEnd()
		})
	}
	if len(ends) < 2 {
		t.Error("all sockets ended at once")
	}
}

func TestCloseWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := pipe(t, &Handler{MaxLifetime: caddy.Duration(time.Minute)})
		p.expectClose(1012, "")
		// What still comes is not echoed, and doesn't prolong the wait.
		closed := time.Now()
		p.send(ws.OpText, "too late")
		p.write(clientFrame(byte(ws.OpBinary), []byte("and unfinished")))
		p.send(ws.OpPing, "too late, too")
		p.expectEnd()
		if waited := time.Since(closed); waited != closeWait {
			t.Errorf("waited %v for the answer to a close frame, want %v", waited, closeWait)
		}
	})
}

func TestCloseAnswered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := pipe(t, &Handler{MaxLifetime: caddy.Duration(time.Minute)})
		p.write(clientFrame(byte(ws.OpText), []byte("half a message")))
		p.expectClose(1012, "")
		closed := time.Now()
		p.write(clientFrame(ws.FinBit, []byte("and the other half")))
		p.sendClose(1012, "")
		p.expectEnd()
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
		p.send(ws.OpText, "echo that nobody reads")
		start := time.Now()
		p.rw.Write(make([]byte, 1<<20))
		if waited := time.Since(start); waited > time.Minute+closeWait {
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
		p.send(ws.OpText, "echo that is read late")
		time.Sleep(20500 * time.Millisecond) // past the lifetime, within closeWait of its last tenth
		p.expect(ws.OpText, "echo that is read late")
		p.expectClose(1012, "")
		p.sendClose(1012, "")
		p.expectEnd()
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
		p.echo(ws.OpText, "lives on")
		p.expectPingAt(2 * time.Minute) // and is looked after
		p.send(ws.OpPong, "")
		for range 20 {
			p.expectPingAt(2 * time.Minute)
			p.send(ws.OpPong, "")
		}
		for p.nextIsPing() {
			p.send(ws.OpPong, p.expectPing())
		}
		p.expectClose(1012, "")
		if lived := time.Since(start); lived < 54*time.Minute || lived > time.Hour {
			t.Errorf("outlived its config by %v, want between 54m and 1h", lived)
		}
		p.sendClose(1012, "")
		p.expectEnd()
		time.Sleep(exitPoll) // until the registry has seen that there is nothing left to watch
		synctest.Wait()
	})
}

func TestClientGone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := pipe(t, new(Handler))
		frame := clientFrame(ws.FinBit|byte(ws.OpText), []byte("never finished"))
		p.write(frame[:len(frame)-1])
		p.rw.Close()
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
