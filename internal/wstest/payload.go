package wstest

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// Letters makes text of n bytes that doesn't repeat itself much.
func Letters(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		b.WriteString(strconv.Itoa(i * 7919))
	}
	return b.String()[:n]
}

// Noise makes n bytes that can't be compressed.
func Noise(n int) string {
	random := mathrand.NewChaCha8([32]byte{})
	p := make([]byte, n)
	random.Read(p)
	return string(p)
}

// Records makes n bytes of the text that applications send most.
func Records(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, `{"id":%d,"symbol":"%s","price":%.2f,"active":%t},`,
			i, []string{"AAPL", "MSFT", "GOOG", "TSLA"}[i*7919>>3&3], float64(i*7919%100_000)/100, i&4 == 0)
	}
	return b.String()[:n]
}

// A message's compressed data end with flushed, which isn't sent (RFC 7692 §7.2.1).
// inflateTail puts it back and ends the data with an empty block.
const (
	flushed     = "\x00\x00\xff\xff"
	inflateTail = flushed + "\x01\x00\x00\xff\xff"
)

// Deflate compresses as a client does, into one frame's payload.
func Deflate(message string) []byte {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestCompression)
	w.Write([]byte(message))
	w.Flush()
	return bytes.TrimSuffix(b.Bytes(), []byte(flushed))
}

// Inflate undoes Deflate.
func Inflate(t *testing.T, payload []byte) string {
	t.Helper()
	message, err := io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(payload), strings.NewReader(inflateTail))))
	if err != nil {
		t.Fatalf("inflating: %v", err)
	}
	return string(message)
}

// TryInflate inflates a message. A block that is marked as the last doesn't end
// it.
func TryInflate(payload []byte) (message []byte, code int) {
	in := bytes.NewReader(append(bytes.Clone(payload), inflateTail...))
	for in.Len() > len(inflateTail) || message == nil {
		part, err := io.ReadAll(io.LimitReader(flate.NewReader(in), enough))
		message = append(message, part...)
		if len(message) >= enough {
			return nil, 1009
		}
		if err != nil {
			return nil, 1007
		}
		if message == nil {
			message = []byte{}
		}
	}
	return message, 0
}

// enough is more than any test sends in a message, and little enough to inflate.
const enough = 2 << 20

// LongForm makes a masked frame with a length that is longer than it must be.
func LongForm(first byte, payload []byte) []byte {
	frame := ClientFrame(first, payload)
	return bytes.Join([][]byte{frame[:1], {ws.MaskBit | 127, 0, 0, 0, 0, 0, 0, 0, byte(len(payload))}, frame[2:]}, nil)
}

// Stall writes until that fails.
func Stall(p *Peer, block []byte) {
	for {
		if _, err := p.Conn.Write(block); err != nil {
			return
		}
	}
}
