package e2e

import (
	"bytes"
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
			if len(message) <= wstest.LongestFrame && frames != 1 {
				t.Errorf("%d bytes came back in %d frames", len(message), frames)
			}
		}
		p.Echo(ws.OpText, "not compressed")
		p.CloseNormally()
	})
}
