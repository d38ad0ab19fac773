package ws

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
				want[i] = got[i] ^ someKey[(pos+int64(i))%4]
			}
			Mask(got, someKey, pos)
			if !bytes.Equal(got, want) {
				t.Fatalf("%d bytes from %d: got %x, want %x", size, pos, got, want)
			}
		}
	}
}

func TestFrameHeaderRoundTrip(t *testing.T) {
	for _, size := range []int{0, 125, 126, 65535, 65536, 1 << 40} {
		for _, masked := range []bool{false, true} {
			p := AppendHeader(nil, FinBit|byte(OpBinary), size)
			if len(p) != HeaderLen(size) {
				t.Errorf("%d: header of %d bytes, want %d", size, len(p), HeaderLen(size))
			}
			want := Header{Opcode: OpBinary, Fin: true, Length: int64(size)}
			if masked {
				p[1] |= MaskBit
				p = append(p, someKey[:]...)
				want.Masked, want.Mask = true, someKey
			}
			for cut := range p {
				if _, n, err := ParseHeader(p[:cut]); n != 0 || err != nil {
					t.Errorf("%d: the first %d bytes are a header of %d, %v", size, cut, n, err)
				}
			}
			if got, n, err := ParseHeader(append(p, "payload"...)); got != want || n != len(p) || err != nil {
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
				Mask(p, someKey, 1)
			}
		})
	}
}
