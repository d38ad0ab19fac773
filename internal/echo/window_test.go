package echo

import (
	"bytes"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"testing"

	klauspost "github.com/klauspost/compress/flate"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// A deflatingClient compresses messages with a window, and possibly with context takeover.
type deflatingClient struct {
	*klauspost.Writer
	out      bytes.Buffer
	takeover bool
}

func newDeflatingClient(t *testing.T, bits int, takeover bool) *deflatingClient {
	t.Helper()
	c := &deflatingClient{takeover: takeover}
	var err error
	if c.Writer, err = klauspost.NewWriterWindow(&c.out, 1<<bits); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *deflatingClient) message(t *testing.T, plain string) []byte {
	t.Helper()
	c.out.Reset()
	if !c.takeover {
		c.Reset(&c.out)
	}
	if _, err := c.Write([]byte(plain)); err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSuffix(bytes.Clone(c.out.Bytes()), []byte(flushMarker))
}

// conversation are messages that repeat each other.
func conversation() []string {
	rng := mathrand.New(mathrand.NewPCG(1, 2))
	var messages []string
	for i := range 8 {
		messages = append(messages, fmt.Sprintf(`{"type":"update","id":%d,"position":[%d,%d],"name":"somebody"}`, i, rng.IntN(1000), rng.IntN(1000)))
	}
	noise := wstest.Noise(5000)
	return append(messages, "", wstest.Records(3000), noise[:300], noise[:300], noise, noise, patchwork(rng, 50_000), strings.Repeat("x", 40_000), noise[4000:], messages[0])
}

// Every window and every context takeover that two sides can agree on is kept to, as an
// inflater shows that has exactly that window.
func TestWindows(t *testing.T) {
	messages := conversation()
	for bits := 8; bits <= 15; bits++ {
		for takeovers := range 4 {
			for _, clientBits := range []int{0, 9} {
				d := &ws.Deflate{
					ServerTakeover: takeovers&1 != 0, ClientTakeover: takeovers&2 != 0, ServerWindowBits: bits, ClientWindowBits: clientBits,
				}
				t.Run(d.String(), func(t *testing.T) {
					farthest := converse(t, d, messages)
					if least := 1 << (bits - 1); farthest < least {
						t.Errorf("no reference goes farther back than %d bytes", farthest)
					}
				})
			}
		}
	}
}

// converse has messages echoed and checks what comes back. It returns how far back the
// farthest reference goes.
func converse(t *testing.T, d *ws.Deflate, messages []string) (farthest int) {
	t.Helper()
	client := newDeflatingClient(t, max(8, d.ClientWindowBits), d.ClientTakeover)
	var sent []byte
	for i, message := range messages {
		payload := client.message(t, message)
		cut := len(payload) * (i % 3) / 3
		sent = append(sent, wstest.ClientFrame(ws.RSV1Bit|byte(ws.OpBinary), payload[:cut])...)
		sent = append(sent, wstest.ClientFrame(ws.FinBit, payload[cut:])...)
		if i%4 == 0 { // is not part of the context
			sent = append(sent, wstest.ClientFrame(ws.FinBit|byte(ws.OpBinary), []byte("not compressed"))...)
		}
	}
	for _, sizes := range [][]byte{nil, {0, 255, 17}} {
		in := &wstest.Pieces{In: sent, Sizes: sizes}
		c := newConn(in, in, true)
		c.Deflate = d
		_ = c.Messages()
		_ = c.Out.Flush()
		c.In.Release()
		server := &inflater{window: 1 << d.ServerBits(), takeover: d.ServerTakeover}
		replies := compressedReplies(t, in.Out.Bytes())
		if len(replies) != len(messages) {
			t.Fatalf("%d replies to %d messages", len(replies), len(messages))
		}
		for i, payload := range replies {
			plain, err := server.message(payload)
			if err != nil || string(plain) != messages[i] {
				t.Fatalf("message %d: %d bytes for %d, %v", i, len(plain), len(messages[i]), err)
			}
		}
		farthest = max(farthest, server.farthest)
	}
	return farthest
}

// compressedReplies returns the payloads of the compressed messages among a server's frames.
func compressedReplies(t *testing.T, sent []byte) (payloads [][]byte) {
	t.Helper()
	compressed := false
	for len(sent) > 0 {
		h, n, err := ws.ParseHeader(sent)
		if err != nil || n == 0 {
			t.Fatalf("%d bytes are left, %v", len(sent), err)
		}
		if h.Opcode != ws.OpContinuation {
			if compressed = h.RSV == ws.RSV1Bit; compressed {
				payloads = append(payloads, nil)
			}
		}
		if compressed {
			last := len(payloads) - 1
			payloads[last] = append(payloads[last], sent[n:n+int(h.Length)]...)
		}
		sent = sent[n+int(h.Length):]
	}
	return payloads
}

// Context takeover makes messages small that are like those before.
func TestTakeoverIsSmaller(t *testing.T) {
	size := func(d *ws.Deflate) (n int) {
		client := newDeflatingClient(t, 15, d.ClientTakeover)
		var sent []byte
		for _, message := range conversation()[:8] {
			sent = append(sent, wstest.ClientFrame(ws.FinBit|ws.RSV1Bit|byte(ws.OpText), client.message(t, message))...)
		}
		in := &wstest.Pieces{In: sent}
		c := newConn(in, in, true)
		c.Deflate = d
		_ = c.Messages()
		_ = c.Out.Flush()
		return in.Out.Len()
	}
	if without, with := size(new(ws.Deflate)), size(&ws.Deflate{ServerTakeover: true}); with > without/2 {
		t.Errorf("%d bytes with context takeover, %d without", with, without)
	}
}

// What a socket keeps is no more than the two sides may refer to.
func TestHistory(t *testing.T) {
	for size, d := range map[int]*ws.Deflate{
		0:       {ServerWindowBits: 9, ClientWindowBits: 9},
		512:     {ServerTakeover: true, ServerWindowBits: 9},
		1 << 15: {ServerTakeover: true, ServerWindowBits: 9, ClientTakeover: true},
		1 << 10: {ClientTakeover: true, ClientWindowBits: 10, ServerTakeover: true, ServerWindowBits: 8},
	} {
		if got := d.History(); got != size {
			t.Errorf("%s: %d bytes, want %d", d, got, size)
		}
		h := history{size: d.History()}
		var all string
		for _, piece := range conversation() {
			h.add([]byte(piece))
			all += piece
			if want := all[max(0, len(all)-size):]; string(h.bytes) != want {
				t.Fatalf("%s: %d bytes are kept, want the last %d", d, len(h.bytes), len(want))
			}
		}
		if cap(h.bytes) > 2*size {
			t.Errorf("%s: %d bytes are allocated for %d", d, cap(h.bytes), size)
		}
	}
}

// FuzzWindows has any messages echoed with any window and context takeover.
func FuzzWindows(f *testing.F) {
	f.Add("hello hello hello", []byte{5, 6}, uint8(0), uint8(3))
	f.Add(strings.Repeat(wstest.Records(300), 4), []byte{255, 0, 255}, uint8(7), uint8(1))
	f.Fuzz(func(t *testing.T, all string, cuts []byte, bits, takeovers uint8) {
		d := &ws.Deflate{
			ServerTakeover: takeovers&1 != 0, ClientTakeover: takeovers&2 != 0,
			ServerWindowBits: 8 + int(bits%8), ClientWindowBits: 8 + int(bits/8%8),
		}
		var messages []string
		for _, cut := range cuts {
			n := min(int(cut)*int(cut), len(all))
			messages, all = append(messages, all[:n]), all[n:]
		}
		converse(t, d, append(messages, all))
	})
}
