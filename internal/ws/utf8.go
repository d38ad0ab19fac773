package ws

import (
	"encoding/binary"
	"unicode/utf8"

	asmutf8 "github.com/segmentio/asm/utf8"
	"golang.org/x/sys/cpu"
)

// A UTF8Checker checks text that comes in pieces, which may be split within a
// character. It fails at the first byte that can't be UTF-8 (RFC 6455 §8.1). The zero
// value is ready to use.
type UTF8Checker struct{ state uint64 }

// NewTextChecker returns a checker for a message with the given opcode, or nil if that
// is not text.
func NewTextChecker(op Opcode) *UTF8Checker {
	if op == OpText {
		return new(UTF8Checker)
	}
	return nil
}

// The states of a UTF8Checker: what may come next. Each is the shift that finds the
// state after it in a row of utf8Rows.
const (
	anyRune   = 6 * iota // any character
	oneMore              // one continuation byte
	twoMore              // two continuation bytes
	threeMore            // three continuation bytes
	afterE0              // two, the first of which is restricted, as in the states below
	afterED
	afterF0
	afterF4
	notUTF8 // nothing: the text is invalid
)

// utf8Steps are the transitions of well-formed text (The Unicode Standard, table 3-7).
var utf8Steps = []struct {
	from, low, high, to uint64
}{
	{anyRune, 0x00, 0x7f, anyRune},
	{anyRune, 0xc2, 0xdf, oneMore},
	{anyRune, 0xe0, 0xe0, afterE0},
	{anyRune, 0xe1, 0xec, twoMore},
	{anyRune, 0xed, 0xed, afterED},
	{anyRune, 0xee, 0xef, twoMore},
	{anyRune, 0xf0, 0xf0, afterF0},
	{anyRune, 0xf1, 0xf3, threeMore},
	{anyRune, 0xf4, 0xf4, afterF4},
	{oneMore, 0x80, 0xbf, anyRune},
	{twoMore, 0x80, 0xbf, oneMore},
	{threeMore, 0x80, 0xbf, twoMore},
	{afterE0, 0xa0, 0xbf, oneMore},
	{afterED, 0x80, 0x9f, oneMore},
	{afterF0, 0x90, 0xbf, twoMore},
	{afterF4, 0x80, 0x8f, twoMore},
}

// utf8Rows holds for each byte the state that follows each state, in six bits each. A
// step is thus one shift, whatever the lengths of the characters are.
var utf8Rows = func() (rows [256]uint64) {
	for b := range rows {
		for state := uint64(anyRune); state <= notUTF8; state += 6 {
			rows[b] |= notUTF8 << state
		}
	}
	for _, s := range utf8Steps {
		for b := s.low; b <= s.high; b++ {
			rows[b] ^= (notUTF8 ^ s.to) << s.from
		}
	}
	return rows
}()

// utf8Block is the number of bytes that are checked for ASCII at once.
const utf8Block = 256

// Write checks the next piece of the text and reports whether the text may still be
// UTF-8.
func (c *UTF8Checker) Write(p []byte) bool {
	if cpu.X86.HasAVX2 && len(p) >= utf8Block {
		p = c.writeWide(p)
	}
	for len(p) > 0 { // a block that is all ASCII needs no table
		block := p[:min(utf8Block, len(p))]
		if c.state != anyRune || !isASCII(block) {
			c.state = utf8State(c.state, block)
		}
		p = p[len(block):]
	}
	return c.state != notUTF8
}

// writeWide checks 32 bytes at a time (https://arxiv.org/abs/2010.03090). It returns the
// last character of p unchecked, since it may be incomplete.
func (c *UTF8Checker) writeWide(p []byte) []byte {
	for c.state != anyRune && c.state != notUTF8 && len(p) > 0 {
		c.state = utf8State(c.state, p[:1])
		p = p[1:]
	}
	last := len(p) - 1
	for last > 0 && !utf8.RuneStart(p[last]) {
		last--
	}
	if c.state == anyRune && !asmutf8.Valid(p[:last]) {
		c.state = notUTF8
	}
	return p[last:]
}

// Complete reports whether the text may end here.
func (c *UTF8Checker) Complete() bool { return c.state == anyRune }

// utf8State returns the state after p.
func utf8State(state uint64, p []byte) uint64 {
	for ; len(p) >= 8; p = p[8:] {
		state = utf8Rows[p[0]] >> (state & 63)
		state = utf8Rows[p[1]] >> (state & 63)
		state = utf8Rows[p[2]] >> (state & 63)
		state = utf8Rows[p[3]] >> (state & 63)
		state = utf8Rows[p[4]] >> (state & 63)
		state = utf8Rows[p[5]] >> (state & 63)
		state = utf8Rows[p[6]] >> (state & 63)
		state = utf8Rows[p[7]] >> (state & 63)
	}
	for _, b := range p {
		state = utf8Rows[b] >> (state & 63)
	}
	return state & 63
}

// isASCII reports whether p has no byte above 127.
func isASCII(p []byte) bool {
	var seen uint64
	for ; len(p) >= 32; p = p[32:] {
		seen |= binary.LittleEndian.Uint64(p) | binary.LittleEndian.Uint64(p[8:]) |
			binary.LittleEndian.Uint64(p[16:]) | binary.LittleEndian.Uint64(p[24:])
	}
	for _, b := range p {
		seen |= uint64(b)
	}
	return seen&0x8080808080808080 == 0
}
