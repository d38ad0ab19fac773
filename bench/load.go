package main

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
)

// A load is a kind of traffic: each client sends a number of messages at once, waits until
// all have come back, and starts again.
type load struct {
	name     string
	sockets  int // the number of clients at once
	over     transport
	share    bool // all clients share a connection, on HTTP/2 and HTTP/3
	opcode   byte
	payloads [][]byte
	frames   []byte // the frames of all messages, masked
}

const (
	opText   = 1
	opBinary = 2
	opClose  = 8
	opPing   = 9
	opPong   = 10
)

func newLoads() []*load {
	return slices.Concat(
		[]*load{
			newLoad("125 B", binaryPayloads(125, 1)),
			newLoad("125 B × 16", binaryPayloads(125, 16)),
			newLoad("4 KiB", binaryPayloads(4<<10, 1)),
			newLoad("64 KiB", binaryPayloads(64<<10, 1)),
			newLoad("1 MiB", binaryPayloads(1<<20, 1)),
			newLoad("text, 64 KiB", [][]byte{multibyte(64 << 10)}).withOpcode(opText),
			newLoad("TLS, 125 B", binaryPayloads(125, 1)).carriedBy(overTLS),
			newLoad("TLS, 4 KiB", binaryPayloads(4<<10, 1)).carriedBy(overTLS),
		},
		newStreamLoads(overHTTP2),
		newStreamLoads(overHTTP3),
	)
}

// newStreamLoads returns the loads of HTTP/2 or HTTP/3.
func newStreamLoads(over transport) []*load {
	name := string(over) + ", "
	return []*load{
		newLoad(name+"125 B", binaryPayloads(125, 1)).carriedBy(over).sharing(),
		newLoad(name+"125 B × 16", binaryPayloads(125, 16)).carriedBy(over).sharing(),
		newLoad(name+"4 KiB", binaryPayloads(4<<10, 1)).carriedBy(over).sharing(),
		newLoad(name+"64 KiB", binaryPayloads(64<<10, 1)).carriedBy(over).sharing(),
		newLoad(name+"125 B, a connection each", binaryPayloads(125, 1)).carriedBy(over),
	}
}

func newLoad(name string, payloads [][]byte) *load {
	l := &load{name: name, payloads: payloads, over: overTCP}
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

func (l *load) carriedBy(over transport) *load {
	l.over = over
	return l
}

// sharing has all clients share a connection.
func (l *load) sharing() *load {
	l.share = true
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
