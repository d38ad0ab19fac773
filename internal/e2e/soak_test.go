//go:build soak

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// The soak tests put a Caddy process under loads and faults that take minutes:
//
//	go test -tags soak -run Soak -v -timeout 30m ./internal/e2e
//
// They hold up to 10,000 sockets, so both processes need as many descriptors.

// A figure is what a process holds at one moment.
type figure struct {
	goroutines     int
	live, resident int64 // bytes
}

func (f figure) String() string {
	return fmt.Sprintf("%d goroutines, %.1f MiB live, %.1f MiB resident",
		f.goroutines, float64(f.live)/(1<<20), float64(f.resident)/(1<<20))
}

// figures asks the process.
func figures(t *testing.T, p *wstest.Process) figure {
	t.Helper()
	answer := p.Get(t, "/debug/pprof/goroutine?debug=1")
	var f figure
	if _, err := fmt.Sscanf(answer, "goroutine profile: total %d", &f.goroutines); err != nil {
		t.Fatalf("%v in %.50q", err, answer)
	}
	for range 2 { // what a pool holds goes with the second collection
		f.resident, f.live = memory(t, p)
	}
	return f
}

// Pools and maps may keep a little of what there once was.
const (
	spareGoroutines = 10
	spareMemory     = 8 << 20
)

// expectBack makes sure that the process holds no more than it did before.
func expectBack(t *testing.T, p *wstest.Process, before figure) {
	t.Helper()
	var now figure
	for deadline := time.Now().Add(wstest.Timeout); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		now = figures(t, p)
		if now.goroutines <= before.goroutines+spareGoroutines && now.live <= before.live+spareMemory {
			break
		}
	}
	t.Logf("before: %v; after: %v", before, now)
	if now.goroutines > before.goroutines+spareGoroutines || now.live > before.live+spareMemory {
		t.Error("the process holds more than before")
	}
	expectNoSessions(t, p)
}

// expectIdle makes sure that the process has nothing to do any more.
func expectIdle(t *testing.T, p *wstest.Process, before figure) {
	t.Helper()
	var now figure
	for deadline := time.Now().Add(2 * wstest.Timeout); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if now = figures(t, p); now.goroutines <= before.goroutines+spareGoroutines {
			break
		}
	}
	t.Logf("before: %v; after: %v", before, now)
	if now.goroutines > before.goroutines+spareGoroutines {
		t.Error("more goroutines are left than there were")
	}
	expectNoSessions(t, p)
}

func expectNoSessions(t *testing.T, p *wstest.Process) {
	t.Helper()
	if open := p.Sessions(t, "?limit=3"); len(open) > 0 {
		t.Errorf("sessions are left: %v", open)
	}
}

// closes are the closes that the process has counted, by cause.
func closeCounts(t *testing.T, p *wstest.Process) map[string]int {
	t.Helper()
	answer := p.Get(t, "/metrics")
	counts := make(map[string]int)
	for line := range strings.Lines(answer) {
		labels, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), metricNames+"closes_total"), "} ")
		if _, by, found := strings.Cut(labels, `cause="`); ok && found && strings.HasPrefix(line, metricNames+"closes_total") {
			cause, _, _ := strings.Cut(by, `"`)
			n, err := strconv.Atoi(value)
			if err != nil {
				t.Fatal(err)
			}
			counts[cause] += n
		}
	}
	return counts
}

// talk echoes messages of all sizes, with a pause between two, and answers pings,
// until stop is set or the socket ends, which is an error. It counts the
// messages.
func talk(p *wstest.Peer, stop *atomic.Bool, pause time.Duration, messages *atomic.Int64) error {
	rng := mathrand.New(mathrand.NewPCG(1, uint64(messages.Load())))
	for !stop.Load() {
		size := []int{0, 5, 125, 126, 4096, 65535, 65536, 200_000}[rng.IntN(8)]
		want := []byte(wstest.Letters(size))
		if _, err := p.Conn.Write(wstest.ClientFrame(ws.FinBit|byte(ws.OpBinary), want)); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
		var got []byte
		for {
			f, err := p.TryReadFrame()
			if err != nil {
				return fmt.Errorf("reading: %w", err)
			}
			if done, err := takeFrame(p, f, &got); err != nil {
				return err
			} else if done {
				break
			}
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%d bytes came back, not the %d that were sent", len(got), len(want))
		}
		messages.Add(1)
		time.Sleep(pause)
	}
	return nil
}

// takeFrame deals with a frame in the middle of talk and reports whether a message
// has ended with it.
func takeFrame(p *wstest.Peer, f wstest.Frame, got *[]byte) (done bool, err error) {
	switch f.Opcode() {
	case ws.OpPing:
		_, err = p.Conn.Write(wstest.ClientFrame(ws.FinBit|byte(ws.OpPong), f.Payload))
		return false, err
	case ws.OpClose:
		p.Conn.Write(wstest.ClientFrame(ws.FinBit|byte(ws.OpClose), f.Payload)) // the client's part
		closed := new(ws.PeerCloseError)
		errors.As(ws.ParseClose(f.Payload), &closed)
		return false, closed
	default:
		*got = append(*got, f.Payload...)
		return f.First&ws.FinBit != 0, nil
	}
}

// smallDialer makes clients that cost little.
var smallDialer = &websocket.Dialer{ReadBufferSize: 256, WriteBufferSize: 256, HandshakeTimeout: time.Minute}
