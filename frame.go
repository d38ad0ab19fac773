package caddywebsocket

import (
	"encoding/binary"
	"math"

	"github.com/gorilla/websocket"
)

// An opcode is the type of a frame (RFC 6455 §5.2).
type opcode byte

const (
	opContinuation opcode = 0
	opText         opcode = websocket.TextMessage
	opBinary       opcode = websocket.BinaryMessage
	opClose        opcode = websocket.CloseMessage
	opPing         opcode = websocket.PingMessage
	opPong         opcode = websocket.PongMessage
)

func (o opcode) isControl() bool { return o >= opClose }

const (
	finBit  = 1 << 7
	rsv1Bit = 1 << 6
	rsvBits = 7 << 4
	maskBit = 1 << 7

	maxControlPayload = 125
	// maxReplyHeader is the longest header of a frame that a server sends.
	maxReplyHeader = 2 + 8
	// maxFrameHeader is the longest header of a frame that a client sends.
	maxFrameHeader = maxReplyHeader + 4
)

// A frameHeader is everything of a frame but its payload.
type frameHeader struct {
	opcode opcode
	fin    bool
	rsv    byte // the three reserved bits, where they stand in the first byte
	masked bool
	mask   [4]byte
	length int64 // of the payload, in bytes
	long   bool  // the length is not in its shortest form
}

// parseFrameHeader parses the header that p starts with and returns its
// length. A length of 0 with no error means that p ends before the header
// does. The error is for what no frame may have, whoever sends it and whenever
// (RFC 6455 §5.2 and §5.5), and comes with the byte that shows it.
func parseFrameHeader(p []byte) (h frameHeader, n int, err error) {
	if len(p) == 0 {
		return h, 0, nil
	}
	h.opcode = opcode(p[0] & 0xf)
	h.fin = p[0]&finBit != 0
	h.rsv = p[0] & rsvBits
	switch {
	case h.opcode > opBinary && h.opcode < opClose || h.opcode > opPong:
		return h, 0, protocolError("reserved opcode %d", h.opcode)
	case h.opcode.isControl() && !h.fin:
		return h, 0, protocolError("fragmented control frame")
	}
	if len(p) < 2 {
		return h, 0, nil
	}
	h.masked = p[1]&maskBit != 0
	h.length = int64(p[1] & 0x7f)
	if h.opcode.isControl() && h.length > maxControlPayload {
		return h, 0, protocolError("control frame of more than %d bytes", maxControlPayload)
	}
	n = 2
	switch h.length {
	case 126:
		if len(p) < 4 {
			return h, 0, nil
		}
		n = 4
		h.length = int64(binary.BigEndian.Uint16(p[2:]))
		h.long = h.length < 126
	case 127:
		if len(p) < 10 {
			return h, 0, nil
		}
		n = 10
		length := binary.BigEndian.Uint64(p[2:])
		if length > math.MaxInt64 {
			return h, 0, protocolError("length of more than 63 bits")
		}
		h.length, h.long = int64(length), length <= math.MaxUint16
	}
	if h.masked {
		if len(p) < n+4 {
			return h, 0, nil
		}
		copy(h.mask[:], p[n:])
		n += 4
	}
	return h, n, nil
}

// firstBreach finds what the header that p starts with breaks first, by the rules
// of parseFrameHeader and by those of check, which is given the header and how
// many of its bytes are there. So the answer to a broken frame is the same
// however its bytes were cut.
func firstBreach(p []byte, check func(h frameHeader, have int) error) error {
	for have := 1; ; have++ {
		h, _, err := parseFrameHeader(p[:have])
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
func appendFrameHeader(p []byte, first byte, length int) []byte {
	switch {
	case length <= maxControlPayload:
		return append(p, first, byte(length))
	case length <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(p, first, 126), uint16(length))
	default:
		return binary.BigEndian.AppendUint64(append(p, first, 127), uint64(length))
	}
}

// replyHeaderLen is the length of the header that appendFrameHeader makes.
func replyHeaderLen(length int) int {
	switch {
	case length <= maxControlPayload:
		return 2
	case length <= math.MaxUint16:
		return 4
	default:
		return maxReplyHeader
	}
}

// unmask removes a masking key from p, of which the first byte is at offset
// pos of the frame's payload (RFC 6455 §5.3).
func unmask(p []byte, key [4]byte, pos int64) {
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
