package caddywebsocket

import (
	"bytes"
	"compress/flate"
	"io"
	mathrand "math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

// deflateMessage compresses as a client does, into one frame's payload.
func deflateMessage(message string) []byte {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestCompression)
	w.Write([]byte(message))
	w.Flush()
	return bytes.TrimSuffix(b.Bytes(), []byte(flushMarker))
}

// inflateMessage undoes deflateMessage.
func inflateMessage(t *testing.T, payload []byte) string {
	t.Helper()
	message, err := io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(payload), strings.NewReader(deflateTail))))
	if err != nil {
		t.Fatalf("inflating: %v", err)
	}
	return string(message)
}

// noise makes n bytes that can't be compressed.
func noise(n int) string {
	random := mathrand.NewChaCha8([32]byte{})
	p := make([]byte, n)
	random.Read(p)
	return string(p)
}

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
			op := opBinary
			if utf8.ValidString(message) {
				op = opText
			}
			compressed := deflateMessage(message)
			cut := len(compressed) / 3
			go p.rw.Write(bytes.Join([][]byte{
				clientFrame(rsv1Bit|byte(op), compressed[:cut]),
				clientFrame(finBit|byte(opPing), nil),
				clientFrame(0, nil),
				clientFrame(finBit, compressed[cut:]),
			}, nil))
			p.expect(opPong, "")
			f := p.read()
			if f.first&^finBit != rsv1Bit|byte(op) {
				t.Fatalf("first byte of the reply is %#x", f.first)
			}
			got, frames := f.payload, 1
			for f.first&finBit == 0 {
				if f = p.read(); f.first&^finBit != 0 {
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
		p.echo(opText, "not compressed")
		p.bye()
	})
}
