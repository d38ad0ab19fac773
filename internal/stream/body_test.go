package stream

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// What Wait and Read return together is what the client has sent, whatever a read of the body
// brings. Many bodies are read at once, for they share buffers.
func TestBodyWaitsAndReads(t *testing.T) {
	var bodies sync.WaitGroup
	for i := range 8 {
		bodies.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			for range 300 {
				want := make([]byte, rng.IntN(20_000))
				for i := range want {
					want[i] = byte(rng.Uint32())
				}
				got, err := readBody(pieces{bytes.NewReader(want), rng}, rng)
				if err != io.EOF || !bytes.Equal(got, want) {
					t.Errorf("got %d bytes and %v, want %d, as they were sent", len(got), err, len(want))
				}
			}
		})
	}
	bodies.Wait()
}

// pieces is a reader that returns as much as it likes.
type pieces struct {
	io.Reader
	rng *rand.Rand
}

func (p pieces) Read(b []byte) (int, error) { return p.Reader.Read(b[:p.rng.IntN(len(b)+1)]) }

// readBody reads all that comes, and waits now and then.
func readBody(body io.Reader, rng *rand.Rand) (got []byte, err error) {
	r := httptest.NewRequest(http.MethodConnect, "/", nil)
	b := NewBody(httptest.NewRecorder(), r, iotest.DataErrReader(body), time.Minute)
	defer b.Close()
	for {
		if rng.IntN(2) == 0 {
			if err := b.Wait(); err != nil {
				return got, err
			}
		}
		p := make([]byte, 1+rng.IntN(5000))
		n, err := b.Read(p)
		if got = append(got, p[:n]...); err != nil {
			return got, err
		}
	}
}

// A write may take the timeout for each step, and its flush for another one.
func TestBodySteps(t *testing.T) {
	const almost, most = testTimeout - time.Millisecond, testTimeout + time.Millisecond
	for name, c := range map[string]struct {
		write, flush time.Duration
		fails        bool
	}{
		"each in time":    {write: almost, flush: almost},
		"a write is late": {write: most, fails: true},
		"a flush is late": {flush: most, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &slowWriter{write: c.write, flush: c.flush, failing: make(chan struct{})}
				r := httptest.NewRequest(http.MethodConnect, "/", nil)
				b := NewBody(w, r, r.Body, testTimeout)
				defer b.Close()
				if _, err := b.Write(make([]byte, 3*maxTLSRecord)); errors.Is(err, os.ErrDeadlineExceeded) != c.fails {
					t.Errorf("the write ended with %v", err)
				}
			})
		})
	}
}

// A slowWriter takes its time for each write and for a flush, unless a deadline ends them.
type slowWriter struct {
	http.ResponseWriter
	write, flush time.Duration
	failing      chan struct{}
}

func (w *slowWriter) Write(p []byte) (int, error) { return len(p), w.take(w.write) }
func (w *slowWriter) FlushError() error           { return w.take(w.flush) }

func (w *slowWriter) take(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-w.failing:
		return errors.New("reset")
	}
}

// SetWriteDeadline is called with one that has passed.
func (w *slowWriter) SetWriteDeadline(time.Time) error {
	close(w.failing)
	return nil
}
