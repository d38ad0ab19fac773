package ws

import (
	"encoding/binary"
	"math"

	"github.com/gorilla/websocket"
)

// An Opcode is the type of a frame (RFC 6455 §5.2).
type Opcode byte

// The opcodes of RFC 6455 §11.8. All others are reserved.
const (
	OpContinuation Opcode = 0
	OpText         Opcode = websocket.TextMessage
	OpBinary       Opcode = websocket.BinaryMessage
	OpClose        Opcode = websocket.CloseMessage
	OpPing         Opcode = websocket.PingMessage
	OpPong         Opcode = websocket.PongMessage
)

// IsControl reports whether o is the opcode of a control frame (RFC 6455 §5.5).
func (o Opcode) IsControl() bool { return o >= OpClose }

// Bits of the first two bytes of a frame (RFC 6455 §5.2).
const (
	FinBit  = 1 << 7 // of the first byte: the frame is the last of its message
	RSV1Bit = 1 << 6 // of the first byte: the message is compressed (RFC 7692 §6)
	RSVBits = 7 << 4 // of the first byte: RSV1, RSV2 and RSV3
	MaskBit = 1 << 7 // of the second byte: the payload is masked
)

const (
	// MaxControlPayload is the longest payload of a control frame, in bytes
	// (RFC 6455 §5.5).
	MaxControlPayload = 125
	// MaxServerHeader is the longest header of a frame that a server sends, in
	// bytes.
	MaxServerHeader = 2 + 8
	// MaxHeader is the longest header of any frame, in bytes: that of a frame with
	// a masking key.
	MaxHeader = MaxServerHeader + 4
)

// A Header is the part of a frame before its payload.
type Header struct {
	Opcode Opcode
	Fin    bool
	RSV    byte // the first byte of the frame, masked with RSVBits
	Masked bool
	Mask   [4]byte // the masking key if Masked is set
	Length int64   // of the payload, in bytes
	long   bool    // the length is not in its shortest form
}

// ParseHeader parses the header at the start of p and returns its length n in
// bytes; n is 0 if p ends before the header does. It returns a [*CloseError] as soon
// as the bytes in p show that no peer may send this frame at any time (RFC 6455 §5.2
// and §5.5).
func ParseHeader(p []byte) (h Header, n int, err error) {
	n, err = h.parse(p)
	return h, n, err
}

// parse is ParseHeader into h, which must be zero. To return a Header would be slow: a processor
// stalls when it copies, in larger pieces, what has just been written in small ones.
func (h *Header) parse(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	h.Opcode = Opcode(p[0] & 0xf)
	h.Fin = p[0]&FinBit != 0
	h.RSV = p[0] & RSVBits
	switch {
	case h.Opcode > OpBinary && h.Opcode < OpClose || h.Opcode > OpPong:
		return 0, protocolError("reserved opcode %d", h.Opcode)
	case h.Opcode.IsControl() && !h.Fin:
		return 0, protocolError("fragmented control frame")
	}
	if len(p) < 2 {
		return 0, nil
	}
	h.Masked = p[1]&MaskBit != 0
	h.Length = int64(p[1] & 0x7f)
	if h.Opcode.IsControl() && h.Length > MaxControlPayload {
		return 0, protocolError("control frame of more than %d bytes", MaxControlPayload)
	}
	n = 2
	switch h.Length {
	case 126:
		if len(p) < 4 {
			return 0, nil
		}
		n = 4
		h.Length = int64(binary.BigEndian.Uint16(p[2:]))
		h.long = h.Length < 126
	case 127:
		if len(p) < 10 {
			return 0, nil
		}
		n = 10
		length := binary.BigEndian.Uint64(p[2:])
		if length > math.MaxInt64 {
			return 0, protocolError("length of more than 63 bits")
		}
		h.Length, h.long = int64(length), length <= math.MaxUint16
	}
	if h.Masked {
		if len(p) < n+4 {
			return 0, nil
		}
		copy(h.Mask[:], p[n:])
		n += 4
	}
	return n, nil
}

// firstViolation returns the error for the first byte of p at which the header there
// violates the rules of ParseHeader or of check, which is given the header and how
// many of its bytes have been parsed. An invalid frame thus gets the same answer
// however its bytes were split.
func firstViolation(p []byte, check func(h Header, have int) error) error {
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

// AppendHeader appends the header of an unmasked frame, as servers send them. The
// first byte is given as it is, opcode and bits; length is that of the payload, in
// bytes.
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

// AppendFrame appends an unmasked frame, as servers send them, with the given first
// byte.
func AppendFrame(p []byte, first byte, payload []byte) []byte {
	return append(AppendHeader(p, first, len(payload)), payload...)
}

// AppendMaskedFrame appends a frame masked with key, as clients send them, with the
// given first byte.
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

// HeaderLen returns the length in bytes of the header that [AppendHeader] appends
// for a payload of length bytes.
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

// Mask masks or unmasks p in place (RFC 6455 §5.3). Its first byte is at offset pos of
// the frame's payload.
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
