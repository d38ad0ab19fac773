package ws

import (
	"bytes"
	mathrand "math/rand/v2"
)

var someKey = [4]byte{0x37, 0xfa, 0x21, 0x3d}

func masked(first byte, payload []byte) []byte {
	return AppendMaskedFrame(nil, first, someKey, payload)
}

func plain(first byte, payload string) []byte { return AppendFrame(nil, first, []byte(payload)) }

// someFrames makes frames of all kinds and sizes.
func someFrames(rng *mathrand.Rand, client bool, total int) []byte {
	var b bytes.Buffer
	for b.Len() < total {
		size := []int{0, 1, 7, 125, 126, 127, 4000, 65535, 65536, 70000}[rng.IntN(10)]
		first := []byte{FinBit | 1, FinBit | 2, 1, 0, FinBit, FinBit | RSV1Bit | 2, FinBit | 9, FinBit | 10}[rng.IntN(8)]
		if Opcode(first & 0xf).IsControl() {
			size = rng.IntN(MaxControlPayload + 1)
		}
		payload := make([]byte, size)
		for i := range payload {
			payload[i] = byte(rng.Uint32())
		}
		if client {
			b.Write(masked(first, payload))
		} else {
			b.Write(plain(first, string(payload)))
		}
	}
	return b.Bytes()
}
