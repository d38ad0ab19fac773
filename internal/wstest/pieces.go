package wstest

import (
	"bytes"
	"io"
	"strconv"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// Pieces is a stream on which In comes in pieces of the given sizes. What is written is kept.
type Pieces struct {
	In    []byte
	Sizes []byte // each less one; none for all at once
	Out   bytes.Buffer
	reads int
}

// Wait implements ws.Input.
func (s *Pieces) Wait() error { return nil }

// Read returns the next piece.
func (s *Pieces) Read(p []byte) (int, error) {
	if len(s.In) == 0 {
		return 0, io.EOF
	}
	n := len(s.In)
	if len(s.Sizes) > 0 {
		n = min(n, 1+int(s.Sizes[s.reads%len(s.Sizes)]))
		s.reads++
	}
	n = copy(p, s.In[:n])
	s.In = s.In[n:]
	return n, nil
}

// Write keeps p.
func (s *Pieces) Write(p []byte) (int, error) { return s.Out.Write(p) }

// Replies takes a server's frames apart: each message, each Pong and each
// Close, in the order in which they end.
func Replies(t *testing.T, sent []byte) []string {
	t.Helper()
	p := NewPeer(t, "replies", struct {
		io.Reader
		io.WriteCloser
	}{Reader: bytes.NewReader(sent)})
	var replies []string
	var message []byte
	var first byte
	for {
		f, err := p.TryReadFrame()
		if err == io.EOF {
			return replies
		}
		if err != nil {
			t.Fatalf("%x is cut within a frame: %v", sent, err)
		}
		switch f.Opcode() {
		case ws.OpPong:
			replies = append(replies, "pong "+string(f.Payload))
			continue
		case ws.OpClose:
			replies = append(replies, "close "+string(f.Payload))
			continue
		case ws.OpContinuation:
			if first == 0 || f.First&ws.RSVBits != 0 {
				t.Fatalf("%x: bad continuation %#x", sent, f.First)
			}
		default:
			if first != 0 {
				t.Fatalf("%x: message in a message", sent)
			}
			first = f.First
		}
		message = append(message, f.Payload...)
		if f.First&ws.FinBit == 0 {
			continue
		}
		if first&ws.RSV1Bit != 0 {
			message = []byte(Inflate(t, message))
		}
		replies = append(replies, strconv.Itoa(int(first&0xf))+" "+string(message))
		message, first = nil, 0
	}
}
