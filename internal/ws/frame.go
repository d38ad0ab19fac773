package ws

import (
	"encoding/binary"
	"math"

	"github.com/gorilla/websocket"
)

// An opcode is the type of a frame (RFC 6455 §5.2).
type Opcode byte

const (
	OpContinuation Opcode = 0
	OpText         Opcode = websocket.TextMessage
	OpBinary       Opcode = websocket.BinaryMessage
	OpClose        Opcode = websocket.CloseMessage
	OpPing         Opcode = websocket.PingMessage
	OpPong         Opcode = websocket.PongMessage
)

func (o Opcode) IsControl() bool { return o >= OpClose }

const (
	FinBit  = 1 << 7
	RSV1Bit = 1 << 6
	RSVBits = 7 << 4
	MaskBit = 1 << 7

	MaxControlPayload = 125
	// maxReplyHeader is the longest header of a frame that a server sends.
	MaxServerHeader = 2 + 8
	// maxFrameHeader is the longest header of a frame that a client sends.
	MaxHeader = MaxServerHeader + 4
)

// A frameHeader is everything of a frame but its payload.
type Header struct {
	Opcode Opcode
	Fin    bool
	RSV    byte // the three reserved bits, where they stand in the first byte
	Masked bool
	Mask   [4]byte
	Length int64 // of the payload, in bytes
	long   bool  // the length is not in its shortest form
}

// parseFrameHeader parses the header that p starts with and returns its
// length. A length of 0 with no error means that p ends before the header
// does. The error is for what no frame may have, whoever sends it and whenever
// (RFC 6455 §5.2 and §5.5), and comes with the byte that shows it.
func ParseHeader(p []byte) (h Header, n int, err error) {
	if len(p) == 0 {
		return h, 0, nil
	}
	h.Opcode = Opcode(p[0] & 0xf)
	h.Fin = p[0]&FinBit != 0
	h.RSV = p[0] & RSVBits
	switch {
	case h.Opcode > OpBinary && h.Opcode < OpClose || h.Opcode > OpPong:
		return h, 0, ProtocolError("reserved opcode %d", h.Opcode)
	case h.Opcode.IsControl() && !h.Fin:
		return h, 0, ProtocolError("fragmented control frame")
	}
	if len(p) < 2 {
		return h, 0, nil
	}
	h.Masked = p[1]&MaskBit != 0
	h.Length = int64(p[1] & 0x7f)
	if h.Opcode.IsControl() && h.Length > MaxControlPayload {
		return h, 0, ProtocolError("control frame of more than %d bytes", MaxControlPayload)
	}
	n = 2
	switch h.Length {
	case 126:
		if len(p) < 4 {
			return h, 0, nil
		}
		n = 4
		h.Length = int64(binary.BigEndian.Uint16(p[2:]))
		h.long = h.Length < 126
	case 127:
		if len(p) < 10 {
			return h, 0, nil
		}
		n = 10
		length := binary.BigEndian.Uint64(p[2:])
		if length > math.MaxInt64 {
			return h, 0, ProtocolError("length of more than 63 bits")
		}
		h.Length, h.long = int64(length), length <= math.MaxUint16
	}
	if h.Masked {
		if len(p) < n+4 {
			return h, 0, nil
		}
		copy(h.Mask[:], p[n:])
		n += 4
	}
	return h, n, nil
}

// firstBreach finds what the header that p starts with breaks first, by the rules
// of parseFrameHeader and by those of check, which is given the header and how
// many of its bytes are there. So the answer to a broken frame is the same
// however its bytes were cut.
func firstBreach(p []byte, check func(h Header, have int) error) error {
	for have := 1; ; have++ {
		h, _, err := ParseHeader(p[:have])
		if err == nil {
			err = check(h, have)
		}
		if err != nil || have >= len(p) {
			return err
		}
	}
}

// appendFrameHeader appends the header of an unmasked frame, as servers send
// them, with the given first byte.
func AppendHeader(p []byte, first byte, length int) []byte {
	switch {
	case length <= MaxControlPayload:
		return append(p, first, byte(length))
	case length <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(p, first, 126), uint16(length))
	default:
		return binary.BigEndian.AppendUint64(append(p, first, 127), uint64(length))
	}
}

// appendFrame appends an unmasked frame, as servers send them.
func AppendFrame(p []byte, first byte, payload []byte) []byte {
	return append(AppendHeader(p, first, len(payload)), payload...)
}

// appendMaskedFrame appends a frame masked with key, as clients send them.
func AppendMaskedFrame(p []byte, first byte, key [4]byte, payload []byte) []byte {
	start := len(p)
	p = AppendHeader(p, first, len(payload))
	p[start+1] |= MaskBit
	p = append(p, key[:]...)
	start = len(p)
	p = append(p, payload...)
	Mask(p[start:], key, 0)
	return p
}

// replyHeaderLen is the length of the header that appendFrameHeader makes.
func HeaderLen(length int) int {
	switch {
	case length <= MaxControlPayload:
		return 2
	case length <= math.MaxUint16:
		return 4
	default:
		return MaxServerHeader
	}
}

// unmask removes a masking key from p, of which the first byte is at offset
// pos of the frame's payload (RFC 6455 §5.3).
func Mask(p []byte, key [4]byte, pos int64) {
	if key == [4]byte{} {
		return
	}
	var k [8]byte
	for i := range k {
		k[i] = key[(pos+int64(i))&3]
	}
	word := binary.LittleEndian.Uint64(k[:])
	for len(p) >= 32 {
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^word)
		binary.LittleEndian.PutUint64(p[8:], binary.LittleEndian.Uint64(p[8:])^word)
		binary.LittleEndian.PutUint64(p[16:], binary.LittleEndian.Uint64(p[16:])^word)
		binary.LittleEndian.PutUint64(p[24:], binary.LittleEndian.Uint64(p[24:])^word)
		p = p[32:]
	}
	for i := range p {
		p[i] ^= k[i&7]
	}
}
