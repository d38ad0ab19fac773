package ws

import (
	"bytes"
	"fmt"
	mathrand "math/rand/v2"
	"testing"
)

// scanAll scans a stream in pieces of the given sizes, over and over, and gives
// what passed and what the scanner knows in the end.
func scanAll(client bool, stream []byte, sizes []byte) (passed []byte, state string) {
	s := Scanner{Client: client}
	var held []byte
	for i := 0; len(stream) > 0; i++ {
		n := len(stream)
		if len(sizes) > 0 {
			n = min(n, 1+int(sizes[i%len(sizes)]))
		}
		r := s.Scan(append(bytes.Clone(held), stream[:n]...))
		passed = append(passed, r.Pass...)
		held = bytes.Clone(r.Held)
		stream = stream[n:]
	}
	return append(passed, held...), fmt.Sprint(s.Remaining, s.size, s.Closed, s.Close, s.Broken, len(held))
}

// FuzzScanner makes sure that every cut of a stream gives the same, and that all
// of it passes.
func FuzzScanner(f *testing.F) {
	rng := mathrand.New(mathrand.NewPCG(5, 6))
	f.Add(true, someFrames(rng, true, 1000), []byte{0})
	f.Add(false, someFrames(rng, false, 1000), []byte{1, 2, 3})
	f.Add(false, append(plain(FinBit|byte(OpClose), "\x03\xe8bye"), "after"...), []byte{2})
	f.Add(true, masked(FinBit|byte(OpClose), nil), []byte{0})
	f.Add(true, []byte{0x88, 0x81}, []byte{0})
	// Two things are wrong with these.
	f.Add(false, []byte{0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0}, []byte{1})
	f.Add(true, []byte{0x82, 0x7e, 0, 1}, []byte{0})
	f.Fuzz(func(t *testing.T, client bool, stream, sizes []byte) {
		passed, whole := scanAll(client, stream, nil)
		if !bytes.Equal(passed, stream) {
			t.Fatalf("%x passes as %x", stream, passed)
		}
		passed, cut := scanAll(client, stream, sizes)
		if !bytes.Equal(passed, stream) {
			t.Fatalf("%x, cut, passes as %x", stream, passed)
		}
		if whole != cut {
			t.Fatalf("%x: the scanner ends at %s, and at %s when cut by %v", stream, whole, cut, sizes)
		}
	})
}

func TestScannerTakesOurPongsOut(t *testing.T) {
	ours := []byte("ourpong!")
	stream := bytes.Join([][]byte{
		masked(FinBit|byte(OpText), []byte("before")),
		masked(FinBit|byte(OpPong), ours),
		masked(FinBit|byte(OpPong), []byte("another!")),
		masked(FinBit|byte(OpPong), ours),
		masked(byte(OpText), []byte("after")),
		masked(FinBit|byte(OpPong), ours),
	}, nil)
	want := bytes.Join([][]byte{
		masked(FinBit|byte(OpText), []byte("before")),
		masked(FinBit|byte(OpPong), []byte("another!")),
		masked(byte(OpText), []byte("after")),
	}, nil)
	for size := 1; size <= len(stream); size++ {
		s := Scanner{Client: true, Ours: func(p []byte) bool { return bytes.Equal(p, ours) }}
		var got, held []byte
		for rest := stream; len(rest) > 0; {
			n := min(size, len(rest))
			r := s.Scan(append(bytes.Clone(held), rest[:n]...))
			got = append(got, r.Pass...)
			held = bytes.Clone(r.Held)
			rest = rest[n:]
		}
		if !bytes.Equal(got, want) || len(held) > 0 {
			t.Fatalf("in pieces of %d: got %q and held %q", size, got, held)
		}
	}
}

func TestScannerLimit(t *testing.T) {
	s := Scanner{Limit: 10}
	small := plain(byte(OpText), "12345")
	r := s.Scan(append(append(bytes.Clone(small), plain(FinBit, "12345")...), plain(FinBit|byte(OpText), "12345678901")...))
	if r.Err != errTooBig || len(r.Pass) != 2*len(small) || len(r.Held) != 13 {
		t.Errorf("passed %q, held %q, error %v", r.Pass, r.Held, r.Err)
	}
}

func BenchmarkScanner(b *testing.B) {
	for _, size := range []int{125, 4 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			var stream []byte
			for len(stream) < 64<<10 {
				stream = append(stream, plain(FinBit|byte(OpBinary), string(make([]byte, size)))...)
			}
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			s := new(Scanner)
			for b.Loop() {
				s.Scan(stream)
			}
		})
	}
}
