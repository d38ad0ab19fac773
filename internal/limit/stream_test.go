package limit

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/stream"
	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// A limited is a Stream over a pipe, and what the test holds of it.
type limited struct {
	*Stream
	client    net.Conn
	keepalive ws.Keepalive
	ending    chan struct{}
	reported  time.Duration
}

func newLimited(t *testing.T, frames, size Rate) *limited {
	t.Helper()
	server, client := net.Pipe()
	l := &limited{client: client, ending: make(chan struct{})}
	l.keepalive.Begin(time.Second, 2*time.Second)
	l.Stream = NewStream(stream.NewConn(server, server, nil, time.Second), NewMeter(frames, size, noPings), &l.keepalive, 4096, l.ending, t.Context().Done(), func(d time.Duration) { l.reported += d })
	t.Cleanup(func() {
		client.Close()
		server.Close()
	})
	return l
}

// send has the client send p.
func (l *limited) send(p []byte) {
	go func() { _, _ = l.client.Write(p) }()
}

// receive reads n bytes.
func (l *limited) receive(t *testing.T, n int) []byte {
	t.Helper()
	p := make([]byte, n)
	if _, err := io.ReadFull(l.Stream, p); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestStreamDelays(t *testing.T) {
	for name, c := range map[string]struct {
		frames, bytes Rate
		took          time.Duration
	}{
		"frames": {Rate{Count: 10, Per: time.Second}, Rate{}, 9 * time.Second},
		"bytes":  {Rate{}, Rate{Count: 160, Per: time.Second}, 9 * time.Second},
		"both":   {Rate{Count: 10, Per: time.Second}, Rate{Count: 80, Per: time.Second}, 19 * time.Second},
		"none":   {Rate{}, Rate{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLimited(t, c.frames, c.bytes)
				sent := bytes.Repeat(frame(ws.OpText, 10), 100)
				l.send(sent)
				begun := time.Now()
				if got := l.receive(t, len(sent)); !bytes.Equal(got, sent) {
					t.Error("other bytes come than were sent")
				}
				if took := time.Since(begun); took < c.took-time.Millisecond || took > c.took+50*time.Millisecond {
					t.Errorf("it took %s, want %s", took, c.took)
				}
				if got := l.Delayed(); got < c.took-time.Millisecond || got > c.took+50*time.Millisecond {
					t.Errorf("delayed for %s, want %s", got, c.took)
				}
				if l.reported != l.Delayed() {
					t.Errorf("%s are reported, want %s", l.reported, l.Delayed())
				}
			})
		})
	}
}

// A client that is held back is sent Pings, and doesn't count as dead.
func TestStreamKeepsAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimited(t, Rate{Count: 1, Per: time.Minute}, Rate{})
		l.send(bytes.Repeat(frame(ws.OpText, 1), 2))
		l.keepalive.Listen()
		l.receive(t, 7)
		l.keepalive.Heard()
		go func() { _, _ = io.ReadFull(l.Stream, make([]byte, 7)) }()
		pings := 0
		for begun := time.Now(); time.Since(begun) < time.Minute; {
			ping, dead, next := l.keepalive.Check()
			if dead {
				t.Fatalf("dead after %s", time.Since(begun))
			}
			if ping {
				l.keepalive.BeginWrite()
				l.keepalive.EndWrite()
				l.keepalive.PingSent()
				pings++
			}
			time.Sleep(next)
		}
		if pings < 50 {
			t.Errorf("%d Pings are due in a minute", pings)
		}
		synctest.Wait()
	})
}

// Once the session is about to end there is nothing to wait for, in whatever read.
func TestStreamEnding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimited(t, Rate{Count: 1, Per: time.Hour}, Rate{})
		sent := bytes.Repeat(frame(ws.OpText, 1), 100)
		l.send(sent)
		time.AfterFunc(time.Second, func() { close(l.ending) })
		begun := time.Now()
		if got := l.receive(t, len(sent)); !bytes.Equal(got, sent) || time.Since(begun) != time.Second {
			t.Errorf("got %d bytes after %s, want all after a second", len(got), time.Since(begun))
		}
	})
}

// Reads that wait can be interrupted, and go on later.
func TestStreamInterrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimited(t, Rate{Count: 1, Per: 10 * time.Second}, Rate{})
		l.send(bytes.Repeat(frame(ws.OpText, 1), 3))
		if n, err := l.Read(make([]byte, 100)); n != 7 || err != nil {
			t.Errorf("got %d bytes, %v, want a frame", n, err)
		}
		for _, wait := range []bool{true, false} {
			time.AfterFunc(time.Second, l.Interrupt)
			read := func() error { _, err := l.Read(make([]byte, 100)); return err }
			if wait {
				read = l.Wait
			}
			err := read()
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("an interrupted read returns %v", err)
			}
			l.Resume()
		}
		l.receive(t, 7)
		time.AfterFunc(time.Second, l.Cut)
		if _, err := l.Read(make([]byte, 100)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a read that is cut returns %v", err)
		}
		l.Resume()
		if _, err := l.Read(make([]byte, 100)); err == nil {
			t.Error("a stream that is cut goes on")
		}
	})
}

// What comes before a refusal passes, and what follows can be read, too.
func TestStreamRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimited(t, Rate{Count: 2, Per: time.Second, Refuse: "message rate exceeded"}, Rate{})
		sent := bytes.Repeat(frame(ws.OpText, 1), 5)
		l.send(sent)
		if got := l.receive(t, 14); !bytes.Equal(got, sent[:14]) {
			t.Errorf("got %x, want two frames", got)
		}
		_, err := l.Read(make([]byte, 100))
		if closing, ok := errors.AsType[*ws.CloseError](err); !ok || closing.Code != 1008 || closing.Reason != "message rate exceeded" {
			t.Errorf("a read returns %v", err)
		}
		if got := l.receive(t, 21); !bytes.Equal(got, sent[14:]) {
			t.Errorf("got %x, want the other frames", got)
		}
		if l.Delayed() > 0 {
			t.Errorf("delayed for %s", l.Delayed())
		}
	})
}

// A flood is a stream of frames that never ends. A read takes a microsecond.
type flood struct {
	stream.Stream
	frame []byte
	at    int
}

func (f *flood) Wait() error { return nil }

func (f *flood) Interrupt() {}

func (f *flood) Read(p []byte) (int, error) {
	time.Sleep(time.Microsecond)
	n := 0
	for n < len(p) {
		k := copy(p[n:], f.frame[f.at:])
		f.at = (f.at + k) % len(f.frame)
		n += k
	}
	return n, nil
}

func newFlood(t *testing.T, frames, size Rate) *limited {
	t.Helper()
	l := &limited{ending: make(chan struct{})}
	l.Stream = NewStream(&flood{frame: frame(ws.OpBinary, 60_000)}, NewMeter(frames, size, noPings), &l.keepalive, 4096, l.ending, t.Context().Done(), func(time.Duration) {})
	return l
}

// readFor reads until an error, or for a while, and returns how much.
func (l *limited) readFor(d time.Duration) (sum int, err error) {
	p := make([]byte, 32<<10)
	for begun := time.Now(); err == nil && time.Since(begun) < d; {
		var n int
		n, err = l.Read(p)
		sum += n
	}
	return sum, err
}

// A client isn't let off because its rate allows a few bytes more meanwhile.
func TestStreamRefusesFlood(t *testing.T) {
	for name, rates := range map[string][2]Rate{
		"bytes":  {{}, {Count: 100 << 20, Per: time.Second, Refuse: "too much"}},
		"frames": {{Count: 1000, Per: time.Second, Refuse: "too many"}, {}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newFlood(t, rates[0], rates[1])
				sum, err := l.readFor(time.Second)
				if closing, ok := errors.AsType[*ws.CloseError](err); !ok || closing.Code != 1008 || sum > 110<<20 {
					t.Errorf("%d bytes are read, %v", sum, err)
				}
			})
		})
	}
}

// At its end, a session doesn't have to take all that a client sends.
func TestStreamFloodAtEnd(t *testing.T) {
	const rate = 100 << 10
	for _, refuse := range []string{"", "too much"} {
		synctest.Test(t, func(t *testing.T) {
			l := newFlood(t, Rate{}, Rate{Count: rate, Per: time.Second, Refuse: refuse})
			_, err := l.readFor(time.Second)
			if (err != nil) != (refuse != "") {
				t.Errorf("%q: %v", refuse, err)
			}
			close(l.ending)
			time.AfterFunc(3*time.Second, l.Interrupt)
			sum, err := l.readFor(10 * time.Second)
			if !errors.Is(err, os.ErrDeadlineExceeded) || sum > endGrace+4*rate {
				t.Errorf("%q: %d bytes are read in 3 s, %v", refuse, sum, err)
			}
		})
	}
}
