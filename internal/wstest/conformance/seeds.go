package conformance

import (
	"bytes"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// Seeds returns what clients send, well and badly, for fuzzing.
func Seeds() [][]byte {
	seeds := [][]byte{
		nil,
		wstest.ClientFrame(ws.FinBit|byte(ws.OpText), []byte("Hello")),
		bytes.Join([][]byte{
			wstest.ClientFrame(byte(ws.OpText), []byte("fr\xe2")), wstest.ClientFrame(ws.FinBit|byte(ws.OpPing), []byte("between")),
			wstest.ClientFrame(0, nil), wstest.ClientFrame(ws.FinBit, []byte("\x82\xac")), wstest.ClientFrame(ws.FinBit|byte(ws.OpClose), ws.ClosePayload(1000, "bye")),
			wstest.ClientFrame(ws.FinBit|byte(ws.OpText), []byte("too late")),
		}, nil),
		wstest.ClientFrame(ws.FinBit|byte(ws.OpBinary), []byte(wstest.Letters(600))),
		wstest.ClientFrame(ws.FinBit|ws.RSV1Bit|byte(ws.OpText), wstest.Deflate("Hello Hello Hello")),
		append(wstest.ClientFrame(ws.RSV1Bit|byte(ws.OpBinary), wstest.Deflate(wstest.Letters(100))[:20]), wstest.ClientFrame(ws.FinBit, wstest.Deflate(wstest.Letters(100))[20:])...),
		wstest.ClientFrame(ws.FinBit|ws.RSV1Bit|byte(ws.OpText), []byte{0xf3, 0x48, 0x05, 0x00, 0xca, 0xc9, 0xc9, 0x07, 0x00}), // a block marked as the last, and one more
	}
	seeds = append(seeds,
		wstest.ClientFrame(ws.RSV1Bit|byte(ws.OpText), []byte{0xf3, 0x48, 0x05, 0x00, 0, 0, 0})[:11], // the same, unfinished
		wstest.ClientFrame(ws.RSV1Bit|byte(ws.OpText), []byte("\x15\xca\x49\x55\xc0\x5b\x40\x58\x12\x9f\x06\x47\xb2\xc8\x11\x0d..")),
		// corrupt at the end, and unfinished
		wstest.ClientFrame(ws.RSV1Bit|byte(ws.OpText), append([]byte("\x00\x05\x00\xfa\xffHello"), 0x07, 0, 0))[:17],
	)
	for i, e := range Exchanges {
		if sent := wstest.ClientBytes(e.Sent); len(sent) < 100 && i%7 == 0 {
			seeds = append(seeds, sent)
		}
	}
	return seeds
}
