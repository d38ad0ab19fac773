package limit

import (
	"math"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/time/rate"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// A Rate is how much a client may send, on average, and how much at once.
type Rate struct {
	Count int64         // 0: any number
	Per   time.Duration // in which Count is refilled
	// Refuse is the reason to close a socket that exceeds the rate. If it is empty, what
	// exceeds the rate is delayed.
	Refuse string
}

// A Meter decides when the bytes that a client sends may pass: its frames by one Rate, and
// the bytes of these, with their headers, by another one. It follows the frames, so that no
// message can be cut into more frames than are allowed, and bytes that are not frames
// by bytes alone. A Meter is for one goroutine.
type Meter struct {
	frames, bytes bucket
	// pings returns how many Pings the client has been sent. As many Pongs don't count.
	pings func() uint32

	head      [ws.MaxHeader]byte
	headLen   int   // how much of the header of the current frame is in head
	remaining int64 // payload bytes of the current frame that have not passed
	begun     bool  // the current frame has been counted, but no byte of it has passed
	free      bool  // the current frame doesn't count
	pongs     uint32
}

// NewMeter returns a Meter for the rates of frames and bytes.
func NewMeter(frames, bytes Rate, pings func() uint32) *Meter {
	return &Meter{frames: newBucket(frames, 0), bytes: newBucket(bytes, minPause), pings: pings}
}

// Take returns how many of the bytes p, which follow those that it was given before, may
// pass now, and counts these. If it is not all of them because a socket that sends more
// is to be closed, it returns the error with which.
func (m *Meter) Take(p []byte, now time.Time) (n int, err error) {
	spent, left := 0, m.bytes.tokens(now)
	defer func() { m.bytes.spend(now, spent) }()
	for n < len(p) {
		if m.headLen == 0 && m.remaining == 0 && !m.beginFrame(p[n], now) {
			return n, m.frames.refuse
		}
		k := 1 // of the header
		if m.remaining > 0 {
			k = int(min(m.remaining, int64(len(p)-n)))
		}
		if !m.free {
			if k = min(k, left-spent); k == 0 {
				return n, m.bytes.refuse
			}
			spent += k
		}
		m.advance(p[n : n+k])
		n += k
	}
	return n, nil
}

// beginFrame counts a frame that begins with first, unless it may not pass yet.
func (m *Meter) beginFrame(first byte, now time.Time) bool {
	if m.begun {
		return true
	}
	m.free = ws.Opcode(first&0xf) == ws.OpPong && m.pings() != m.pongs
	if m.free {
		m.pongs++
	} else if m.frames.tokens(now) == 0 {
		return false
	} else {
		m.frames.spend(now, 1)
	}
	m.begun = true
	return true
}

// advance follows the frames over bytes that pass: one of a header, or some of a payload.
func (m *Meter) advance(p []byte) {
	m.begun = false
	if m.remaining > 0 {
		m.remaining -= int64(len(p))
		return
	}
	m.head[m.headLen] = p[0]
	m.headLen++
	switch h, n, err := ws.ParseHeader(m.head[:m.headLen]); {
	case err != nil:
		m.headLen, m.remaining, m.free = 0, math.MaxInt64, false
	case n > 0:
		m.headLen, m.remaining = 0, h.Length
	}
}

// Count counts bytes that have passed without being asked about. If they are more than may
// pass, what follows has to wait for longer.
func (m *Meter) Count(p []byte, now time.Time) {
	for len(p) > 0 {
		k := 1
		if m.remaining > 0 {
			k = int(min(m.remaining, int64(len(p))))
		} else if m.headLen == 0 && !m.beginFrame(p[0], now) {
			m.free = false
			m.frames.owe(now, 1)
		}
		if !m.free {
			m.bytes.owe(now, k)
		}
		m.advance(p[:k])
		p = p[k:]
	}
}

// Relax makes m delay what it would have refused.
func (m *Meter) Relax() { m.frames.refuse, m.bytes.refuse = nil, nil }

// Remaining returns how many payload bytes of the current frame have not passed yet.
func (m *Meter) Remaining() int64 { return m.remaining }

// Until returns how long it takes until more bytes may pass, of which those that are known
// are next, and how many of them may then. What is to be refused is not waited for.
func (m *Meter) Until(next []byte, now time.Time) (wait time.Duration, most int) {
	if len(next) > 0 && m.headLen == 0 && m.remaining == 0 && !m.beginFrame(next[0], now) {
		wait = m.frames.until(now)
	}
	if m.free && len(next) > 0 {
		return wait, math.MaxInt
	}
	return max(wait, m.bytes.until(now)), m.bytes.most(now)
}

// minPause is about how long a client that is delayed waits for more bytes, so that these
// don't pass one by one.
const minPause = 20 * time.Millisecond

// A bucket is the token bucket of a Rate.
type bucket struct {
	*rate.Limiter         // nil: any number
	least         float64 // how many tokens to wait for
	refuse        error   // nil: what exceeds the rate is delayed
}

// newBucket returns a bucket that is waited for until it has what it gets in pause.
func newBucket(r Rate, pause time.Duration) bucket {
	if r.Count == 0 {
		return bucket{}
	}
	perSecond := float64(r.Count) / r.Per.Seconds()
	burst := int(min(r.Count, math.MaxInt))
	b := bucket{
		Limiter: rate.NewLimiter(rate.Limit(perSecond), burst),
		least:   min(float64(burst), max(1, perSecond*pause.Seconds())),
	}
	if r.Refuse != "" {
		b.refuse = &ws.CloseError{Code: websocket.ClosePolicyViolation, Reason: r.Refuse}
	}
	return b
}

// tokens returns how much may pass now.
func (b *bucket) tokens(now time.Time) int {
	if b.Limiter == nil {
		return math.MaxInt
	}
	return max(0, int(b.TokensAt(now)))
}

// most is tokens for what doesn't have to be refused yet.
func (b *bucket) most(now time.Time) int {
	if b.refuse != nil {
		return math.MaxInt
	}
	return b.tokens(now)
}

func (b *bucket) spend(now time.Time, n int) {
	if b.Limiter != nil && n > 0 {
		b.AllowN(now, n)
	}
}

// owe spends n, even if there is less.
func (b *bucket) owe(now time.Time, n int) {
	for b.Limiter != nil && n > 0 {
		k := min(n, b.Burst())
		b.ReserveN(now, k)
		n -= k
	}
}

// until returns how long to wait for more.
func (b *bucket) until(now time.Time) time.Duration {
	if b.Limiter == nil || b.refuse != nil {
		return 0
	}
	lacking := b.least - b.TokensAt(now)
	if lacking <= 0 {
		return 0
	}
	return time.Duration(math.Ceil(lacking / float64(b.Limit()) * float64(time.Second)))
}
