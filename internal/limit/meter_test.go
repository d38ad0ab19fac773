package limit

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// frame returns a client's frame with a payload of size bytes.
func frame(opcode ws.Opcode, size int) []byte {
	p := ws.AppendHeader(nil, ws.FinBit|byte(opcode), size)
	p[1] |= ws.MaskBit
	p = append(p, 0, 0, 0, 0)
	return append(p, bytes.Repeat([]byte{'x'}, size)...)
}

func noPings() uint32 { return 0 }

func TestMeter(t *testing.T) {
	text, ping, pong := frame(ws.OpText, 10), frame(ws.OpPing, 0), frame(ws.OpPong, 8)
	many := bytes.Repeat(text, 10)
	for name, c := range map[string]struct {
		frames, bytes Rate
		pings         uint32
		sent          []byte
		want          []int // bytes that pass in each second
	}{
		"no rate":              {sent: many, want: []int{160}},
		"frames":               {frames: Rate{Count: 3, Per: time.Second}, sent: many, want: []int{48, 48, 48, 16}},
		"frames per minute":    {frames: Rate{Count: 60, Per: time.Minute}, sent: bytes.Repeat(many, 7), want: []int{60 * 16, 16, 16, 16}},
		"one frame":            {frames: Rate{Count: 1, Per: 2 * time.Second}, sent: text, want: []int{16, 0}},
		"slower than one":      {frames: Rate{Count: 1, Per: 2 * time.Second}, sent: many, want: []int{16, 0, 16, 0, 16}},
		"control frames":       {frames: Rate{Count: 2, Per: time.Second}, sent: bytes.Repeat(ping, 5), want: []int{12, 12, 6}},
		"a Pong not asked for": {frames: Rate{Count: 1, Per: time.Second}, sent: bytes.Repeat(pong, 3), want: []int{14, 14, 14}},
		"answers to Pings":     {frames: Rate{Count: 1, Per: time.Second}, pings: 2, sent: bytes.Repeat(pong, 4), want: []int{3 * 14, 14}},
		"bytes":                {bytes: Rate{Count: 40, Per: time.Second}, sent: many, want: []int{40, 40, 40, 40}},
		"bytes of a Pong":      {bytes: Rate{Count: 7, Per: time.Second}, pings: 1, sent: bytes.Repeat(pong, 2), want: []int{14 + 7, 7}},
		"fewer than a frame":   {bytes: Rate{Count: 5, Per: time.Second}, sent: text, want: []int{5, 5, 5, 1}},
		"both":                 {frames: Rate{Count: 3, Per: time.Second}, bytes: Rate{Count: 40, Per: time.Second}, sent: many, want: []int{40, 40, 40, 40}},
		"no frames":            {frames: Rate{Count: 1, Per: time.Hour}, bytes: Rate{Count: 100, Per: time.Second}, sent: bytes.Repeat([]byte{0xff}, 150), want: []int{100, 50}},
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMeter(c.frames, c.bytes, func() uint32 { return c.pings })
			left := c.sent
			for second, want := range c.want {
				n, err := m.Take(left, start.Add(time.Duration(second)*time.Second))
				if n != want || err != nil {
					t.Fatalf("second %d: %d bytes pass, %v, want %d", second, n, err, want)
				}
				left = left[n:]
			}
		})
	}
}

func TestMeterRefuses(t *testing.T) {
	refused := func(err error, reason string) bool {
		closing, ok := errors.AsType[*ws.CloseError](err)
		return ok && closing.Code == websocket.ClosePolicyViolation && closing.Reason == reason
	}
	frames := NewMeter(Rate{Count: 2, Per: time.Second, Refuse: "too many"}, Rate{}, noPings)
	if n, err := frames.Take(bytes.Repeat(frame(ws.OpText, 10), 3), start); n != 32 || !refused(err, "too many") {
		t.Errorf("of three frames, %d bytes pass, %v", n, err)
	}
	if wait, _ := frames.Until(frame(ws.OpText, 10), start); wait > 0 {
		t.Errorf("a refusal waits for %s", wait)
	}
	size := NewMeter(Rate{}, Rate{Count: 20, Per: time.Second, Refuse: "too much"}, noPings)
	if n, err := size.Take(bytes.Repeat(frame(ws.OpText, 10), 3), start); n != 20 || !refused(err, "too much") {
		t.Errorf("of three frames, %d bytes pass, %v", n, err)
	}
}

// Until says how long to wait, and then something passes.
func TestMeterUntil(t *testing.T) {
	text := frame(ws.OpText, 10)
	m := NewMeter(Rate{Count: 4, Per: time.Second}, Rate{Count: 1000, Per: time.Second}, noPings)
	if wait, most := m.Until(text, start); wait != 0 || most != 1000 {
		t.Errorf("at first: %s, %d", wait, most)
	}
	n, _ := m.Take(bytes.Repeat(text, 10), start)
	if wait, _ := m.Until(text, start); n != 64 || wait != 250*time.Millisecond {
		t.Errorf("after %d bytes of frames: %s, want a quarter of a second", n, wait)
	}
	if wait, most := m.Until(nil, start); wait != 0 || most != 1000-64 {
		t.Errorf("before it is known what comes: %s, %d", wait, most)
	}
	if n, err := m.Take(text, start.Add(250*time.Millisecond)); n != 16 || err != nil {
		t.Errorf("after the wait, %d bytes pass, %v", n, err)
	}
	m.Take(frame(ws.OpBinary, 2000), start.Add(500*time.Millisecond))
	if wait, _ := m.Until(nil, start.Add(500*time.Millisecond)); wait != minPause {
		t.Errorf("after many bytes: %s, want %s", wait, minPause)
	}
}

// FuzzMeter sends bytes in any pieces. All of them pass in time, and no faster than they may.
func FuzzMeter(f *testing.F) {
	f.Add(bytes.Repeat(frame(ws.OpText, 10), 5), uint8(3), uint16(30), uint8(1))
	f.Add(append(frame(ws.OpPong, 8), frame(ws.OpBinary, 70_000)...), uint8(1), uint16(900), uint8(2))
	f.Add([]byte(strings.Repeat("no frames", 10)), uint8(1), uint16(1), uint8(0))
	f.Fuzz(func(t *testing.T, sent []byte, frames uint8, size uint16, pings uint8) {
		m := NewMeter(Rate{Count: int64(frames), Per: time.Second}, Rate{Count: int64(size), Per: time.Second}, func() uint32 { return uint32(pings) })
		now, passed, step := start, 0, 1
		for left := sent; len(left) > 0; {
			wait, _ := m.Until(left, now)
			now = now.Add(wait)
			piece := left[:min(step, len(left))]
			step = step*3%37 + 1
			n, err := m.Take(piece, now)
			if err != nil || n == 0 && wait == 0 && passed > 0 && len(piece) > 0 && mayPass(m, piece, now) {
				t.Fatalf("%d of %d bytes pass after %s, %v", n, len(piece), wait, err)
			}
			passed += n
			left = left[n:]
			free := 125 * int(pings)
			if most := int(size) + int(now.Sub(start).Seconds()*float64(size)) + 1 + free + 14*int(pings); size > 0 && passed > most {
				t.Fatalf("%d bytes pass within %s, at most %d may", passed, now.Sub(start), most)
			}
			if now.Sub(start) > 1000*time.Hour {
				t.Fatal("it takes for ever")
			}
		}
	})
}

// mayPass reports whether the first of some bytes may pass.
func mayPass(m *Meter, p []byte, now time.Time) bool {
	wait, most := m.Until(p, now)
	return wait == 0 && most > 0
}
