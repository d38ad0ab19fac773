package main

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
)

// A load is what a client asks of a server: so many messages at a time, and
// when all have come back the same again.
type load struct {
	name     string
	sockets  int // that do so at once
	tls      bool
	opcode   byte
	payloads [][]byte
	frames   []byte // all of them, masked, one after the other
}

const (
	opText   = 1
	opBinary = 2
	opPing   = 9
	opPong   = 10
)

func newLoads() []*load {
	return []*load{
		newLoad("125 B", binaryPayloads(125, 1)),
		newLoad("125 B × 16", binaryPayloads(125, 16)),
		newLoad("4 KiB", binaryPayloads(4<<10, 1)),
		newLoad("64 KiB", binaryPayloads(64<<10, 1)),
		newLoad("1 MiB", binaryPayloads(1<<20, 1)),
		newLoad("text, 64 KiB", [][]byte{multibyte(64 << 10)}).as(opText),
		newLoad("TLS, 4 KiB", binaryPayloads(4<<10, 1)).overTLS(),
	}
}

func newLoad(name string, payloads [][]byte) *load {
	l := &load{name: name, payloads: payloads}
	// As much for a server as a MiB, which more would only push out of the caches.
	size := len(payloads) * len(payloads[0])
	l.sockets = max(1, min(32, 1<<20/size))
	return l.as(opBinary)
}

// as has the messages be of the given type.
func (l *load) as(opcode byte) *load {
	l.opcode, l.frames = opcode, nil
	for _, p := range l.payloads {
		l.frames = appendMasked(l.frames, opcode, p)
	}
	return l
}

func (l *load) overTLS() *load {
	l.tls = true
	return l
}

// appendMasked appends a client's frame, with a key that is not the same
// forwards and backwards.
func appendMasked(b []byte, opcode byte, payload []byte) []byte {
	key := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	switch n := len(payload); {
	case n <= 125:
		b = append(b, 0x80|opcode, 0x80|byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|opcode, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|opcode, 0x80|127), uint64(n))
	}
	b = append(b, key[:]...)
	for i, c := range payload {
		b = append(b, c^key[i%4])
	}
	return b
}

// binaryPayloads makes messages that all differ.
func binaryPayloads(size, count int) [][]byte {
	random := rand.NewChaCha8([32]byte{})
	payloads := make([][]byte, count)
	for i := range payloads {
		payloads[i] = make([]byte, size)
		_, _ = random.Read(payloads[i]) // never fails
	}
	return payloads
}

// multibyte is text of characters of two, three and four bytes.
func multibyte(size int) []byte {
	text := bytes.Repeat([]byte("ž€𐍈"), size/9)
	return append(text, bytes.Repeat([]byte("."), size-len(text))...)
}
