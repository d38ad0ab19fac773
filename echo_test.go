package caddywebsocket

import (
	"bytes"
	mathrand "math/rand/v2"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

func TestEchoSizes(t *testing.T) {
	onEveryProtocol(t, "websocket", func(t *testing.T, s *server, protocol string) {
		p := s.dial(t, protocol, "/")
		for _, size := range []int{
			0, 1, 125, 126, 127, 4095, 4096, 4097, 4110, 4111, 65535, 65536, 65537, 65600, 65601,
			65610, 65611, 200_000, 3 << 20,
		} {
			want := letters(size)
			go p.rw.Write(clientFrame(ws.FinBit|byte(ws.OpText), []byte(want)))
			op, got, frames := p.readMessage()
			if op != ws.OpText || string(got) != want {
				t.Fatalf("%d bytes: another message of %d bytes came back", size, len(got))
			}
			if size <= maxEchoFrame && frames != 1 {
				t.Errorf("%d bytes came back in %d frames", size, frames)
			}
		}
		p.bye()
	})
}

func TestEchoPipelined(t *testing.T) {
	onEveryProtocol(t, "websocket", func(t *testing.T, s *server, protocol string) {
		p := s.dial(t, protocol, "/")
		var sent bytes.Buffer
		const n = 3000
		for i := range n {
			sent.Write(clientFrame(ws.FinBit|byte(ws.OpBinary), []byte(strings.Repeat("m", i%300)+strconv.Itoa(i))))
		}
		go p.rw.Write(sent.Bytes())
		for i := range n {
			p.expect(ws.OpBinary, strings.Repeat("m", i%300)+strconv.Itoa(i))
		}
		p.bye()
	})
}

func TestEchoChopped(t *testing.T) {
	onEveryProtocol(t, "websocket", func(t *testing.T, s *server, protocol string) {
		p := s.dial(t, protocol, "/")
		text := "¢€𐍈 in pieces"
		for _, b := range clientFrame(ws.FinBit|byte(ws.OpText), []byte(text)) {
			p.write([]byte{b})
		}
		p.expect(ws.OpText, text)
		for _, b := range append(clientFrame(byte(ws.OpText), []byte(text)), clientFrame(ws.FinBit, []byte(text))...) {
			p.write([]byte{b})
		}
		p.expect(ws.OpText, text+text)
		p.bye()
	})
}

func TestEchoFragments(t *testing.T) {
	onEveryProtocol(t, "websocket", func(t *testing.T, s *server, protocol string) {
		p := s.dial(t, protocol, "/")
		p.write(clientFrame(byte(ws.OpText), []byte("a \xe2")))
		p.send(ws.OpPing, "between")
		p.expect(ws.OpPong, "between")
		p.write(clientFrame(0, nil), clientFrame(0, []byte("\x82")), clientFrame(0, []byte("\xac ")))
		p.send(ws.OpPong, "unsolicited")
		p.write(clientFrame(ws.FinBit, []byte("b")))
		p.expect(ws.OpText, "a € b")

		p.write(clientFrame(byte(ws.OpBinary), nil), clientFrame(ws.FinBit, nil))
		p.expect(ws.OpBinary, "")

		// More than fits in one frame, in fragments that fit in no buffer evenly.
		want := letters(500_000)
		var sent []byte
		first := byte(ws.OpText)
		for rest := want; rest != ""; {
			n := min(len(rest), 7001)
			sent = append(sent, clientFrame(first, []byte(rest[:n]))...)
			rest, first = rest[n:], 0
		}
		sent = append(sent, clientFrame(ws.FinBit, nil)...)
		go p.rw.Write(sent)
		if _, got, _ := p.readMessage(); string(got) != want {
			t.Fatalf("another message of %d bytes came back", len(got))
		}
		p.bye()
	})
}

func TestEchoMillionFragments(t *testing.T) {
	s := start(t, "websocket")
	p := s.dial(t, "http1", "/")
	const n = 1_000_000
	sent := clientFrame(byte(ws.OpText), nil)
	fragment := clientFrame(0, []byte("f"))
	for range n {
		sent = append(sent, fragment...)
	}
	sent = append(sent, clientFrame(ws.FinBit, nil)...)
	go p.rw.Write(sent)
	if _, got, _ := p.readMessage(); string(got) != strings.Repeat("f", n) {
		t.Fatalf("another message of %d bytes came back", len(got))
	}
	p.bye()
}

func TestPongsStandInOrder(t *testing.T) {
	onEveryProtocol(t, "websocket", func(t *testing.T, s *server, protocol string) {
		p := s.dial(t, protocol, "/")
		var sent []byte
		for size := range ws.MaxControlPayload + 1 {
			sent = append(sent, clientFrame(ws.FinBit|byte(ws.OpPing), []byte(strings.Repeat("p", size)))...)
			sent = append(sent, clientFrame(ws.FinBit|byte(ws.OpText), []byte(strconv.Itoa(size)))...)
		}
		p.write(sent)
		for size := range ws.MaxControlPayload + 1 {
			p.expect(ws.OpPong, strings.Repeat("p", size))
			p.expect(ws.OpText, strconv.Itoa(size))
		}
		p.bye()
	})
}

// A message of a gibibyte takes no more memory than one of a megabyte.
func TestEchoGibibyte(t *testing.T) {
	const size = 1 << 30
	s := start(t, "websocket")
	p := s.dial(t, "http1", "/")
	p.scratch = make([]byte, ws.LongBlocks.Size)
	p.echo(ws.OpBinary, letters(maxEchoFrame))
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = byte(i * 31 >> 3)
	}
	runtime.GC()
	debug.FreeOSMemory()
	before := residentMemory(t)
	go func() {
		head := ws.AppendHeader(nil, ws.FinBit|byte(ws.OpBinary), size)
		head[1] |= ws.MaskBit
		p.rw.Write(append(head, 0, 0, 0, 0)) // a key that changes nothing
		for range size / len(block) {
			if _, err := p.rw.Write(block); err != nil {
				return
			}
		}
	}()
	grown := int64(0)
	want := block
	for got := 0; got < size; {
		f := p.read()
		if got == 0 && f.op() != ws.OpBinary || got > 0 && f.op() != ws.OpContinuation {
			t.Fatalf("opcode %d after %d bytes", f.op(), got)
		}
		got += len(f.payload)
		for rest := f.payload; len(rest) > 0; {
			n := min(len(rest), len(want))
			if !bytes.Equal(rest[:n], want[:n]) {
				t.Fatalf("other bytes came back, around byte %d", got)
			}
			if rest, want = rest[n:], want[n:]; len(want) == 0 {
				want = block
				grown = max(grown, residentMemory(t)-before)
			}
		}
		if final := f.first&ws.FinBit != 0; final != (got == size) {
			t.Fatalf("final is %t after %d bytes", final, got)
		}
	}
	// The race detector's own memory grows with what it sees.
	if limit := int64(16 << 20); grown > limit && !raceDetector {
		t.Errorf("the process grew by %d bytes, want less than %d", grown, limit)
	}
	p.bye()
}

// residentMemory is how much memory the process has now, in bytes.
func residentMemory(t *testing.T) int64 {
	t.Helper()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.Sys - m.HeapReleased)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(data))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// countingConn counts reads.
type countingConn struct {
	net.Conn
	reads int
}

func (c *countingConn) Read(p []byte) (int, error) {
	c.reads++
	return c.Conn.Read(p)
}

// Where waiting takes a byte off the stream, the rest must not come byte by
// byte.
func TestReadsAreLarge(t *testing.T) {
	const size = 256 << 10
	noise := make([]byte, size)
	for i := range noise {
		noise[i] = byte(mathrand.Uint32())
	}
	for name, message := range map[string][]byte{
		"plain":      clientFrame(ws.FinBit|byte(ws.OpBinary), noise),
		"compressed": clientFrame(ws.FinBit|ws.RSV1Bit|byte(ws.OpBinary), deflateMessage(string(noise))),
		"fragments": slices.Concat(clientFrame(byte(ws.OpBinary), noise[:size/2]),
			clientFrame(ws.FinBit, noise[size/2:])),
		"after a close frame": slices.Concat(clientFrame(ws.FinBit|byte(ws.OpClose), nil), noise),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := &Handler{Compression: "on"}
				server, client := net.Pipe()
				conn := &countingConn{Conn: server}
				p := pipeOver(t, h, conn, client)
				go p.rw.Write(message)
				for {
					if f := p.read(); f.first&ws.FinBit != 0 {
						break
					}
				}
				p.rw.Close()
				synctest.Wait()
				if limit := len(message)/int(h.BufferSize) + 20; conn.reads > limit {
					t.Errorf("%d reads for %d bytes, want no more than %d", conn.reads, len(message), limit)
				}
			})
		})
	}
}
