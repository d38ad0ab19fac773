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
)

func TestDeflate(t *testing.T) {
	onEveryProtocol(t, "websocket {\ncompression on\n}", func(t *testing.T, s *server, protocol string) {
		p := s.dial(t, protocol, "/", "Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")
		const want = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
		if got := p.res.Header.Get("Sec-WebSocket-Extensions"); got != want {
			t.Fatalf("extensions are %q, want %q", got, want)
		}
		for _, message := range []string{
			"", "Hello", letters(4096), letters(65536), letters(300_000), strings.Repeat("a", 1<<20),
			noise(65536), noise(200_000),
		} {
			op := ws.OpBinary
			if utf8.ValidString(message) {
				op = ws.OpText
			}
			compressed := deflateMessage(message)
			cut := len(compressed) / 3
			go p.rw.Write(bytes.Join([][]byte{
				clientFrame(ws.RSV1Bit|byte(op), compressed[:cut]),
				clientFrame(ws.FinBit|byte(ws.OpPing), nil),
				clientFrame(0, nil),
				clientFrame(ws.FinBit, compressed[cut:]),
			}, nil))
			p.expect(ws.OpPong, "")
			f := p.read()
			if f.first&^ws.FinBit != ws.RSV1Bit|byte(op) {
				t.Fatalf("first byte of the reply is %#x", f.first)
			}
			got, frames := f.payload, 1
			for f.first&ws.FinBit == 0 {
				if f = p.read(); f.first&^ws.FinBit != 0 {
					t.Fatalf("first byte of a continuation is %#x", f.first)
				}
				got = append(got, f.payload...)
				frames++
			}
			if inflateMessage(t, got) != message {
				t.Fatalf("another message came back for %.20q of %d bytes", message, len(message))
			}
			if len(message) <= maxEchoFrame && frames != 1 {
				t.Errorf("%d bytes came back in %d frames", len(message), frames)
			}
		}
		p.echo(ws.OpText, "not compressed")
		p.bye()
	})
}

// Long messages come back whole, in whatever frames and pieces they come.
func TestDeflateLongMessages(t *testing.T) {
	rng := mathrand.New(mathrand.NewPCG(7, 9))
	for range 40 {
		message := patchwork(rng, rng.IntN(1<<20))
		rest := deflateMessage(message)
		var stream []byte
		pings := 0
		for first := byte(ws.RSV1Bit | ws.OpBinary); ; first = 0 {
			n := min(len(rest), rng.IntN(1<<rng.IntN(18)))
			if n == len(rest) {
				stream = append(stream, clientFrame(ws.FinBit|first, rest)...)
				break
			}
			stream = append(stream, clientFrame(first, rest[:n])...)
			rest = rest[n:]
			if rng.IntN(4) == 0 {
				stream = append(stream, clientFrame(ws.FinBit|byte(ws.OpPing), nil)...)
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
	random, text := noise(n+1), records(n+1)
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
				payload := append(deflateMessage(noise(good)), flushMarker...)
				payload = append(payload, 0x07) // a block of the reserved type
				enough := len(payload) + min(4*len(payload), ws.Blocks.Size) + piece
				payload = append(payload, make([]byte, 1<<20)...)
				stream := clientFrame(ws.FinBit|ws.RSV1Bit|byte(ws.OpBinary), payload)
				go func() {
					for piece := range slices.Chunk(stream[:len(stream)-len(payload)+enough], piece) {
						p.rw.Write(piece)
					}
				}()
				if first, payload := p.readEvent(); !matches("X:1007~corrupt", first, payload) {
					t.Errorf("got %#x %q", first, payload)
				}
			})
		})
	}
}
