package caddywebsocket

import (
	"bytes"
	mathrand "math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

func TestDeflate(t *testing.T) {
	wstest.OnEveryProtocol(t, "websocket {\ncompression on\n}", func(t *testing.T, s *wstest.Server, protocol string) {
		p := s.Dial(t, protocol, "/", "Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")
		const want = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
		if got := p.Response.Header.Get("Sec-WebSocket-Extensions"); got != want {
			t.Fatalf("extensions are %q, want %q", got, want)
		}
		for _, message := range []string{
			"", "Hello", wstest.Letters(4096), wstest.Letters(65536), wstest.Letters(300_000), strings.Repeat("a", 1<<20),
			wstest.Noise(65536), wstest.Noise(200_000),
		} {
			op := ws.OpBinary
			if utf8.ValidString(message) {
				op = ws.OpText
			}
			compressed := wstest.Deflate(message)
			cut := len(compressed) / 3
			go p.Conn.Write(bytes.Join([][]byte{
				wstest.ClientFrame(ws.RSV1Bit|byte(op), compressed[:cut]),
				wstest.ClientFrame(ws.FinBit|byte(ws.OpPing), nil),
				wstest.ClientFrame(0, nil),
				wstest.ClientFrame(ws.FinBit, compressed[cut:]),
			}, nil))
			p.Expect(ws.OpPong, "")
			f := p.ReadFrame()
			if f.First&^ws.FinBit != ws.RSV1Bit|byte(op) {
				t.Fatalf("first byte of the reply is %#x", f.First)
			}
			got, frames := f.Payload, 1
			for f.First&ws.FinBit == 0 {
				if f = p.ReadFrame(); f.First&^ws.FinBit != 0 {
					t.Fatalf("first byte of a continuation is %#x", f.First)
				}
				got = append(got, f.Payload...)
				frames++
			}
			if wstest.Inflate(t, got) != message {
				t.Fatalf("another message came back for %.20q of %d bytes", message, len(message))
			}
			if len(message) <= maxEchoFrame && frames != 1 {
				t.Errorf("%d bytes came back in %d frames", len(message), frames)
			}
		}
		p.Echo(ws.OpText, "not compressed")
		p.CloseNormally()
	})
}

// Long messages come back whole, in whatever frames and pieces they come.
func TestDeflateLongMessages(t *testing.T) {
	rng := mathrand.New(mathrand.NewPCG(7, 9))
	for range 40 {
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

// What is wrong with compressed data shows when five times as much has come, or a
// block more.
func TestCorruptDeflateShowsEarly(t *testing.T) {
	const piece = 100
	for _, good := range []int{0, 1, 10, 1000, 10_000, 60_000, 70_000, 200_000} {
		t.Run(strconv.Itoa(good), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				p := pipe(t, &Handler{Compression: "on"})
				payload := append(wstest.Deflate(wstest.Noise(good)), flushMarker...)
				payload = append(payload, 0x07) // a block of the reserved type
				enough := len(payload) + min(4*len(payload), ws.Blocks.Size) + piece
				payload = append(payload, make([]byte, 1<<20)...)
				stream := wstest.ClientFrame(ws.FinBit|ws.RSV1Bit|byte(ws.OpBinary), payload)
				go func() {
					for piece := range slices.Chunk(stream[:len(stream)-len(payload)+enough], piece) {
						p.Conn.Write(piece)
					}
				}()
				if first, payload := p.ReadEvent(); !wstest.Matches("X:1007~corrupt", first, payload) {
					t.Errorf("got %#x %q", first, payload)
				}
			})
		})
	}
}
