package main

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
)

// A load is a kind of traffic: each client sends a number of messages at once, waits until
// all have come back, and starts again.
type load struct {
	name     string
	sockets  int // the number of clients at once
	tls      bool
	opcode   byte
	payloads [][]byte
	frames   []byte // the frames of all messages, masked
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
		newLoad("text, 64 KiB", [][]byte{multibyte(64 << 10)}).withOpcode(opText),
		newLoad("TLS, 4 KiB", binaryPayloads(4<<10, 1)).overTLS(),
	}
}

func newLoad(name string, payloads [][]byte) *load {
	l := &load{name: name, payloads: payloads}
	// 1 MiB in flight for a server, so that the data fits in the caches.
	size := len(payloads) * len(payloads[0])
	l.sockets = max(1, min(32, 1<<20/size))
	return l.withOpcode(opBinary)
}

// withOpcode sets the type of the messages.
func (l *load) withOpcode(opcode byte) *load {
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

// appendMasked appends a client's frame. Its masking key is not a palindrome, so that a
// wrong byte order shows.
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

// binaryPayloads returns messages that all differ.
func binaryPayloads(size, count int) [][]byte {
	random := rand.NewChaCha8([32]byte{})
	payloads := make([][]byte, count)
	for i := range payloads {
		payloads[i] = make([]byte, size)
		_, _ = random.Read(payloads[i]) // never fails
	}
	return payloads
}

// multibyte returns text of characters of two, three and four bytes.
func multibyte(size int) []byte {
	text := bytes.Repeat([]byte("ž€𐍈"), size/9)
	return append(text, bytes.Repeat([]byte("."), size-len(text))...)
}
