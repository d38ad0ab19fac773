package caddywebsocket

import (
	"bytes"
	"fmt"
	"testing"
	"unicode/utf8"
)

func TestUnmask(t *testing.T) {
	for size := range 100 {
		for pos := range int64(5) {
			got, want := make([]byte, size), make([]byte, size)
			for i := range got {
				got[i] = byte(i * 7)
				want[i] = got[i] ^ testMask[(pos+int64(i))%4]
			}
			unmask(got, testMask, pos)
			if !bytes.Equal(got, want) {
				t.Fatalf("%d bytes from %d: got %x, want %x", size, pos, got, want)
			}
		}
	}
}

func TestFrameHeaderRoundTrip(t *testing.T) {
	for _, size := range []int{0, 125, 126, 65535, 65536, 1 << 40} {
		for _, masked := range []bool{false, true} {
			p := appendFrameHeader(nil, finBit|byte(opBinary), size)
			if len(p) != replyHeaderLen(size) {
				t.Errorf("%d: header of %d bytes, want %d", size, len(p), replyHeaderLen(size))
			}
			want := frameHeader{opcode: opBinary, fin: true, length: int64(size)}
			if masked {
				p[1] |= maskBit
				p = append(p, testMask[:]...)
				want.masked, want.mask = true, testMask
			}
			for cut := range p {
				if _, n, err := parseFrameHeader(p[:cut]); n != 0 || err != nil {
					t.Errorf("%d: the first %d bytes are a header of %d, %v", size, cut, n, err)
				}
			}
			if got, n, err := parseFrameHeader(append(p, "payload"...)); got != want || n != len(p) || err != nil {
				t.Errorf("%d: got %+v of %d bytes, %v", size, got, n, err)
			}
		}
	}
}

// FuzzUTF8 holds the checker, for any cut, against the standard library, and
// makes sure that it finds the first impossible byte when it sees it.
func FuzzUTF8(f *testing.F) {
	for _, s := range []string{"", "ascii", "¢€𐍈", "\xff", "\xe2\x82", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc0\xaf", "a\x80"} {
		f.Add([]byte(s), []byte{0})
		f.Add([]byte(s+s), []byte{1, 2})
	}
	f.Fuzz(func(t *testing.T, text, sizes []byte) {
		var c utf8Checker
		for i, rest := 0, text; len(rest) > 0; i++ {
			n := len(rest)
			if len(sizes) > 0 {
				n = min(n, 1+int(sizes[i%len(sizes)]))
			}
			seen := text[:len(text)-len(rest)+n]
			ok := c.write(rest[:n])
			if want := possible(seen); ok != want {
				t.Fatalf("%q: %t, want %t", seen, ok, want)
			}
			if !ok {
				return
			}
			rest = rest[n:]
		}
		if c.complete() != utf8.Valid(text) {
			t.Fatalf("%q: complete is %t", text, c.complete())
		}
	})
}

// possible reports whether some bytes can follow that make p UTF-8.
func possible(p []byte) bool {
	for _, end := range []string{"", "\x80", "\x80\x80", "\x80\x80\x80", "\xbf", "\xbf\xbf", "\xbf\xbf\xbf", "\x90\x80\x80", "\xa0\x80", "\x8f\xbf\xbf", "\x9f\xbf"} {
		if utf8.Valid(append(bytes.Clone(p), end...)) {
			return true
		}
	}
	return false
}

func BenchmarkUnmask(b *testing.B) {
	for _, size := range []int{125, 4 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			p := make([]byte, size)
			b.SetBytes(int64(size))
			for b.Loop() {
				unmask(p, testMask, 1)
			}
		})
	}
}

func BenchmarkUTF8(b *testing.B) {
	for name, text := range map[string][]byte{
		"ascii":     bytes.Repeat([]byte("a"), 64<<10),
		"multibyte": bytes.Repeat([]byte("ž€𐍈"), 64<<10/9),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				var c utf8Checker
				if !c.write(text) {
					b.Fatal("not valid")
				}
			}
		})
	}
}
