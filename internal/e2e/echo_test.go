package e2e

import (
	"bytes"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

func TestEchoSizes(t *testing.T) {
	wstest.OnEveryProtocol(t, "websocket", func(t *testing.T, s *wstest.Server, protocol string) {
		p := s.Dial(t, protocol, "/")
		for _, size := range []int{
			0, 1, 125, 126, 127, 4095, 4096, 4097, 4110, 4111, 65535, 65536, 65537, 65600, 65601,
			65610, 65611, 200_000, 3 << 20,
		} {
			want := wstest.Letters(size)
			go p.Conn.Write(wstest.ClientFrame(ws.FinBit|byte(ws.OpText), []byte(want)))
			op, got, frames := p.ReadMessage()
			if op != ws.OpText || string(got) != want {
				t.Fatalf("%d bytes: another message of %d bytes came back", size, len(got))
			}
			if size <= wstest.LongestFrame && frames != 1 {
				t.Errorf("%d bytes came back in %d frames", size, frames)
			}
		}
		p.CloseNormally()
	})
}

func TestEchoPipelined(t *testing.T) {
	wstest.OnEveryProtocol(t, "websocket", func(t *testing.T, s *wstest.Server, protocol string) {
		p := s.Dial(t, protocol, "/")
		var sent bytes.Buffer
		const n = 3000
		for i := range n {
			sent.Write(wstest.ClientFrame(ws.FinBit|byte(ws.OpBinary), []byte(strings.Repeat("m", i%300)+strconv.Itoa(i))))
		}
		go p.Conn.Write(sent.Bytes())
		for i := range n {
			p.Expect(ws.OpBinary, strings.Repeat("m", i%300)+strconv.Itoa(i))
		}
		p.CloseNormally()
	})
}

func TestEchoChopped(t *testing.T) {
	wstest.OnEveryProtocol(t, "websocket", func(t *testing.T, s *wstest.Server, protocol string) {
		p := s.Dial(t, protocol, "/")
		text := "¢€𐍈 in pieces"
		for _, b := range wstest.ClientFrame(ws.FinBit|byte(ws.OpText), []byte(text)) {
			p.WriteRaw([]byte{b})
		}
		p.Expect(ws.OpText, text)
		for _, b := range append(wstest.ClientFrame(byte(ws.OpText), []byte(text)), wstest.ClientFrame(ws.FinBit, []byte(text))...) {
			p.WriteRaw([]byte{b})
		}
		p.Expect(ws.OpText, text+text)
		p.CloseNormally()
	})
}

func TestEchoFragments(t *testing.T) {
	wstest.OnEveryProtocol(t, "websocket", func(t *testing.T, s *wstest.Server, protocol string) {
		p := s.Dial(t, protocol, "/")
		p.WriteRaw(wstest.ClientFrame(byte(ws.OpText), []byte("a \xe2")))
		p.Send(ws.OpPing, "between")
		p.Expect(ws.OpPong, "between")
		p.WriteRaw(wstest.ClientFrame(0, nil), wstest.ClientFrame(0, []byte("\x82")), wstest.ClientFrame(0, []byte("\xac ")))
		p.Send(ws.OpPong, "unsolicited")
		p.WriteRaw(wstest.ClientFrame(ws.FinBit, []byte("b")))
		p.Expect(ws.OpText, "a € b")

		p.WriteRaw(wstest.ClientFrame(byte(ws.OpBinary), nil), wstest.ClientFrame(ws.FinBit, nil))
		p.Expect(ws.OpBinary, "")

		// More than fits in one frame, in fragments that fit in no buffer evenly.
		want := wstest.Letters(500_000)
		var sent []byte
		first := byte(ws.OpText)
		for rest := want; rest != ""; {
			n := min(len(rest), 7001)
			sent = append(sent, wstest.ClientFrame(first, []byte(rest[:n]))...)
			rest, first = rest[n:], 0
		}
		sent = append(sent, wstest.ClientFrame(ws.FinBit, nil)...)
		go p.Conn.Write(sent)
		if _, got, _ := p.ReadMessage(); string(got) != want {
			t.Fatalf("another message of %d bytes came back", len(got))
		}
		p.CloseNormally()
	})
}

func TestEchoMillionFragments(t *testing.T) {
	s := wstest.Start(t, "websocket")
	p := s.Dial(t, "http1", "/")
	const n = 1_000_000
	sent := wstest.ClientFrame(byte(ws.OpText), nil)
	fragment := wstest.ClientFrame(0, []byte("f"))
	for range n {
		sent = append(sent, fragment...)
	}
	sent = append(sent, wstest.ClientFrame(ws.FinBit, nil)...)
	go p.Conn.Write(sent)
	if _, got, _ := p.ReadMessage(); string(got) != strings.Repeat("f", n) {
		t.Fatalf("another message of %d bytes came back", len(got))
	}
	p.CloseNormally()
}

func TestPongsStandInOrder(t *testing.T) {
	wstest.OnEveryProtocol(t, "websocket", func(t *testing.T, s *wstest.Server, protocol string) {
		p := s.Dial(t, protocol, "/")
		var sent []byte
		for size := range ws.MaxControlPayload + 1 {
			sent = append(sent, wstest.ClientFrame(ws.FinBit|byte(ws.OpPing), []byte(strings.Repeat("p", size)))...)
			sent = append(sent, wstest.ClientFrame(ws.FinBit|byte(ws.OpText), []byte(strconv.Itoa(size)))...)
		}
		p.WriteRaw(sent)
		for size := range ws.MaxControlPayload + 1 {
			p.Expect(ws.OpPong, strings.Repeat("p", size))
			p.Expect(ws.OpText, strconv.Itoa(size))
		}
		p.CloseNormally()
	})
}

// A message of a gibibyte takes no more memory than one of a megabyte.
func TestEchoGibibyte(t *testing.T) {
	const size = 1 << 30
	s := wstest.Start(t, "websocket")
	p := s.Dial(t, "http1", "/")
	p.Scratch = make([]byte, ws.LongBlocks.Size)
	p.Echo(ws.OpBinary, wstest.Letters(wstest.LongestFrame))
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
		p.Conn.Write(append(head, 0, 0, 0, 0)) // a key that changes nothing
		for range size / len(block) {
			if _, err := p.Conn.Write(block); err != nil {
				return
			}
		}
	}()
	grown := int64(0)
	want := block
	for got := 0; got < size; {
		f := p.ReadFrame()
		if got == 0 && f.Opcode() != ws.OpBinary || got > 0 && f.Opcode() != ws.OpContinuation {
			t.Fatalf("opcode %d after %d bytes", f.Opcode(), got)
		}
		got += len(f.Payload)
		for rest := f.Payload; len(rest) > 0; {
			n := min(len(rest), len(want))
			if !bytes.Equal(rest[:n], want[:n]) {
				t.Fatalf("other bytes came back, around byte %d", got)
			}
			if rest, want = rest[n:], want[n:]; len(want) == 0 {
				want = block
				grown = max(grown, residentMemory(t)-before)
			}
		}
		if final := f.First&ws.FinBit != 0; final != (got == size) {
			t.Fatalf("final is %t after %d bytes", final, got)
		}
	}
	// The race detector's own memory grows with what it sees.
	if limit := int64(16 << 20); grown > limit && !wstest.RaceDetector {
		t.Errorf("the process grew by %d bytes, want less than %d", grown, limit)
	}
	p.CloseNormally()
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

func TestEchoOnEveryProtocol(t *testing.T) {
	s := wstest.Start(t, "log\nwebsocket /ws")
	for _, protocol := range wstest.Protocols {
		t.Run(protocol, func(t *testing.T) {
			p := s.Dial(t, protocol, "/ws")
			p.Echo(ws.OpText, "hello")
			p.Echo(ws.OpBinary, "\x00\xff")
			p.Echo(ws.OpText, "")
			p.Echo(ws.OpBinary, strings.Repeat("x", 4096))
			p.Echo(ws.OpBinary, strings.Repeat("y", 65536))
			p.Send(ws.OpPing, "ping")
			p.Expect(ws.OpPong, "ping")
			p.CloseNormally()
		})
	}
}

// Where Caddy speaks HTTP/1.1 alone, it wraps connections, and waiting for a message reads the
// beginning of it, as on TLS.
func TestEchoOnWrappedConnections(t *testing.T) {
	t.Parallel()
	s := wstest.StartBeside(t, "servers {\nprotocols h1\n}", "websocket")
	for _, protocol := range []string{"http1", "tls"} {
		p := s.Dial(t, protocol, "/")
		for range 3 {
			for size := range 40 { // so many short ones that the next is expected to be short
				p.Echo(ws.OpText, wstest.Letters(size))
			}
			for _, size := range []int{240, 250, 256, 257, 300, 5000, 1, 60_000, 300, 2} {
				p.Echo(ws.OpText, wstest.Letters(size))
			}
		}
		p.CloseNormally()
	}
}
