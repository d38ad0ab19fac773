package caddywebsocket

import (
	"bytes"
	"fmt"
	"testing"
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
