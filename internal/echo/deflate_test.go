package echo

import (
	"encoding/hex"
	mathrand "math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// Long messages come back whole, in whatever frames and pieces they come.
func TestDeflateLongMessages(t *testing.T) {
	rng := mathrand.New(mathrand.NewPCG(7, 9))
	for range 15 {
		message := patchwork(rng, rng.IntN(1<<20))
		rest := wstest.Deflate(message)
		var stream []byte
		pings := 0
		for first := byte(ws.RSV1Bit | ws.OpBinary); ; first = 0 {
			n := min(len(rest), rng.IntN(1<<rng.IntN(18)))
			if n == len(rest) {
				stream = append(stream, wstest.ClientFrame(ws.FinBit|first, rest)...)
				break
			}
			stream = append(stream, wstest.ClientFrame(first, rest[:n])...)
			rest = rest[n:]
			if rng.IntN(4) == 0 {
				stream = append(stream, wstest.ClientFrame(ws.FinBit|byte(ws.OpPing), nil)...)
				pings++
			}
		}
		for _, sizes := range [][]byte{nil, {0}, {200, 3, 255}} {
			r := readOurs(t, stream, sizes, true)
			if len(r.messages) != 1 || r.messages[0] != strconv.Itoa(int(ws.OpBinary))+" "+message || len(r.pings) != pings {
				t.Fatalf("%d bytes, in pieces of %d: %d messages and %d pongs came back, then %v",
					len(message), sizes, len(r.messages), len(r.pings), r.err)
			}
		}
	}
}

// patchwork makes n bytes that can be compressed in some places.
func patchwork(rng *mathrand.Rand, n int) string {
	random, text := wstest.Noise(n+1), wstest.Records(n+1)
	var b strings.Builder
	for b.Len() < n {
		from, size := rng.IntN(n), rng.IntN(1<<rng.IntN(18))
		to := min(n, from+size)
		b.WriteString([]string{random[from:to], text[from:to], strings.Repeat("x", size)}[rng.IntN(3)])
	}
	return b.String()[:n]
}

// What is wrong with compressed data shows when 17 times as much has come, or a
// block more.
func TestCorruptDeflateShowsEarly(t *testing.T) {
	const piece = 100
	for _, good := range []int{0, 1, 10, 1000, 10_000, 60_000, 70_000, 200_000} {
		t.Run(strconv.Itoa(good), func(t *testing.T) {
			payload := append(wstest.Deflate(wstest.Noise(good)), flushMarker...)
			payload = append(payload, 0x07) // a block of the reserved type
			enough := len(payload) + min(16*len(payload), ws.Blocks.Size) + piece
			payload = append(payload, make([]byte, 1<<20)...)
			stream := wstest.ClientFrame(ws.FinBit|ws.RSV1Bit|byte(ws.OpBinary), payload)
			r := readOurs(t, stream[:len(stream)-len(payload)+enough], []byte{piece - 1}, true)
			if r.err != errCorruptDeflate {
				t.Errorf("got %v", r.err)
			}
		})
	}
}

// Whether a message is corrupt doesn't depend on the one before, from which its inflater
// may have a distance tree that the message lacks.
func TestInflaterForgets(t *testing.T) {
	// A block with an empty distance tree: the letter a 3000 times, and a length.
	corrupt, err := hex.DecodeString("0cc0010900000080a0adfe3f51" + strings.Repeat("00", 375) + "0c00001000")
	if err != nil {
		t.Fatal(err)
	}
	const first = ws.FinBit | ws.RSV1Bit | byte(ws.OpBinary)
	stream := append(wstest.ClientFrame(first, wstest.Deflate(wstest.Records(3000))), wstest.ClientFrame(first, corrupt)...)
	if r := readOurs(t, stream, nil, true); len(r.messages) != 1 || r.err != errCorruptDeflate {
		t.Errorf("got %d messages, %v", len(r.messages), r.err)
	}
}
