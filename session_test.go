package caddywebsocket

import (
	"bufio"
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
)

// pipe opens a socket of handler h over a net.Pipe. In a synctest bubble, where
// it is meant to be used, time passes when all are waiting, and the test fails
// if a goroutine is left in the end.
func pipe(t *testing.T, h *Handler) *peer {
	t.Helper()
	server, client := net.Pipe()
	return pipeOver(t, h, server, client)
}

// pipeOver is pipe with the two ends given.
func pipeOver(t *testing.T, h *Handler, server, client net.Conn) *peer {
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
	done := make(chan struct{})
	go func() {
		defer close(done)
		newSession(h, httptest.NewRequest("GET", "/", nil)).echo(&accepted{
			stream:  newConnStream(server, server, nil, time.Duration(h.WriteTimeout)),
			deflate: h.Compression == "on",
		})
	}()
	t.Cleanup(func() {
		client.Close()
		<-done
	})
	return &peer{
		t: t, name: "pipe", rw: client, br: bufio.NewReader(client),
		deadline: func(time.Time) error { return nil },
	}
}

// bubble runs f in a synctest bubble, and what it leaves for Cleanup, too.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// expectPingAt makes sure that the next frame is a Ping and comes after d.
func (p *peer) expectPingAt(d time.Duration) {
	p.t.Helper()
	start := time.Now()
	p.expectPing()
	if waited := time.Since(start); waited != d {
		p.t.Fatalf("a ping came after %v, want %v", waited, d)
	}
}

// nextIsPing waits for a frame and tells whether it is a Ping.
func (p *peer) nextIsPing() bool {
	p.t.Helper()
	first, err := p.br.Peek(1)
	if err != nil {
		p.t.Fatal(err)
	}
	return first[0] == finBit|byte(opPing)
}

// expectSilence makes sure that nothing comes for d.
func (p *peer) expectSilence(d time.Duration) {
	p.t.Helper()
	conn := p.rw.(net.Conn)
	conn.SetReadDeadline(time.Now().Add(d))
	if b, err := p.br.Peek(1); err == nil {
		p.t.Fatalf("got byte %#x, want silence", b)
	}
	conn.SetReadDeadline(time.Time{})
	p.br.Reset(conn)
}

func TestPingWhenSilent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := pipe(t, new(Handler))
		for range 5 {
			p.expectPingAt(2 * time.Minute)
			p.send(opPong, "")
		}
		time.Sleep(time.Minute)
		p.echo(opText, "not silent")
		p.expectPingAt(2 * time.Minute)
		p.bye()
	})
}

func TestNoPingWhenBusy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := pipe(t, new(Handler))
		for range 30 {
			p.expectSilence(time.Minute)
			p.echo(opText, "busy")
		}
		p.bye()
	})
}

func TestPingWhenOneDirectionIsSilent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := pipe(t, new(Handler))
		// The server hears something each minute and has nothing to answer.
		for range 10 {
			p.expectSilence(time.Minute)
			p.send(opPong, "unsolicited")
			p.expectPingAt(time.Minute)
		}
		p.bye()
	})
}

func TestDeadPeerIsCut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &Handler{KeepaliveInterval: caddy.Duration(30 * time.Second), KeepaliveTimeout: caddy.Duration(100 * time.Second)}
		p := pipe(t, h)
		p.expectPingAt(30 * time.Second)
		p.expectPingAt(30 * time.Second)
		p.expectPingAt(30 * time.Second)
		start := time.Now()
		p.expectClose(1001, "keepalive timeout")
		if waited := time.Since(start); waited != 10*time.Second {
			t.Errorf("the close frame came %v after the last ping, want 10s", waited)
		}
		p.expectEnd()
		if waited := time.Since(start); waited != 10*time.Second+lastWords {
			t.Errorf("the end came %v after the last ping, want %v", waited, 10*time.Second+lastWords)
		}
	})
}

func TestAnyByteIsLife(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := pipe(t, new(Handler))
		frame := clientFrame(finBit|byte(opText), []byte("a slow frame"))
		for i := range frame {
			p.write(frame[i : i+1])
			if i < len(frame)-1 {
				p.expectPing() // for the other direction is silent
				time.Sleep(time.Minute)
			}
		}
		p.expect(opText, "a slow frame")
		p.bye()
	})
}

func TestKeepaliveOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := pipe(t, &Handler{KeepaliveInterval: -1})
		p.expectSilence(365 * 24 * time.Hour)
		p.echo(opText, "still there")
		p.bye()
	})
}

func TestStalledWriteIsCut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := pipe(t, new(Handler))
		start := time.Now()
		p.send(opText, "echo that nobody reads")
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
		p.send(opBinary, string(message))
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
		p.send(opBinary, strings.Repeat("x", 200))
		for range 204 {
			time.Sleep(9 * time.Second)
			if _, err := io.ReadFull(p.rw, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		p.expectPing()
		p.expectPingAt(2 * time.Minute)
		time.Sleep(time.Minute) // three in all, less than the timeout
		p.echo(opText, "alive")
		p.bye()
	})
}

func TestLifetime(t *testing.T) {
	ends := make(map[time.Duration]bool)
	for range 20 {
		bubble(t, func(t *testing.T) {
			start := time.Now()
			p := pipe(t, &Handler{KeepaliveInterval: -1, MaxLifetime: caddy.Duration(time.Hour)})
			p.expectClose(1001, "lifetime")
			lived := time.Since(start)
			if lived < 54*time.Minute || lived > time.Hour {
				t.Errorf("lived %v, want between 54m and 1h", lived)
			}
			ends[lived] = true
			p.sendClose(1001, "")
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
		p.expectClose(1001, "")
		// What still comes is not echoed, and doesn't prolong the wait.
		closed := time.Now()
		p.send(opText, "too late")
		p.write(clientFrame(byte(opBinary), []byte("and unfinished")))
		p.send(opPing, "too late, too")
		p.expectEnd()
		if waited := time.Since(closed); waited != closeWait {
			t.Errorf("waited %v for the answer to a close frame, want %v", waited, closeWait)
		}
	})
}

func TestCloseAnswered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := pipe(t, &Handler{MaxLifetime: caddy.Duration(time.Minute)})
		p.write(clientFrame(byte(opText), []byte("half a message")))
		p.expectClose(1001, "")
		closed := time.Now()
		p.write(clientFrame(finBit, []byte("and the other half")))
		p.sendClose(1001, "")
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
		p.send(opText, "echo that nobody reads")
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
		p.send(opText, "echo that is read late")
		time.Sleep(20500 * time.Millisecond) // past the lifetime, within closeWait of its last tenth
		p.expect(opText, "echo that is read late")
		p.expectClose(1001, "lifetime")
		p.sendClose(1001, "")
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
		p.echo(opText, "lives on")
		p.expectPingAt(2 * time.Minute) // and is looked after
		p.send(opPong, "")
		for range 20 {
			p.expectPingAt(2 * time.Minute)
			p.send(opPong, "")
		}
		for p.nextIsPing() {
			p.send(opPong, p.expectPing())
		}
		p.expectClose(1001, "reload")
		if lived := time.Since(start); lived < 54*time.Minute || lived > time.Hour {
			t.Errorf("outlived its config by %v, want between 54m and 1h", lived)
		}
		p.sendClose(1001, "")
		p.expectEnd()
		time.Sleep(exitPoll) // until the registry has seen that there is nothing left to watch
		synctest.Wait()
	})
}

func TestClientGone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := pipe(t, new(Handler))
		frame := clientFrame(finBit|byte(opText), []byte("never finished"))
		p.write(frame[:len(frame)-1])
		p.rw.Close()
		synctest.Wait()
		sessions.mu.Lock()
		defer sessions.mu.Unlock()
		if n := len(sessions.open); n != 0 {
			t.Errorf("%d sessions are open", n)
		}
	})
}

// A Ping that can't be written ends the session, long before the timeout.
func TestPingThatFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &Handler{KeepaliveInterval: caddy.Duration(time.Minute), KeepaliveTimeout: caddy.Duration(time.Hour)}
		open := func() (n int) {
			for _, s := range sessions.find(nil) {
				if s.handler == h {
					n++
				}
			}
			return n
		}
		pipe(t, h)
		time.Sleep(time.Minute + defaultWriteTimeout*9/8 - time.Second)
		synctest.Wait()
		if open() != 1 {
			t.Fatal("the session has ended, while its ping may still be sent")
		}
		time.Sleep(time.Second + time.Millisecond)
		synctest.Wait()
		if open() != 0 {
			t.Error("the session is still open")
		}
	})
}
