package caddywebsocket

import "unicode/utf8"

// A utf8Checker checks text that comes in pieces cut anywhere. It finds the
// first byte that cannot be UTF-8 when it sees it (RFC 6455 §8.1).
type utf8Checker struct {
	tail [utf8.UTFMax]byte // the start of a sequence that the last piece cut
	n    int               // how much of tail is in use
}

// write takes the next piece and reports whether the text may still be UTF-8.
func (c *utf8Checker) write(p []byte) bool {
	for c.n > 0 && len(p) > 0 {
		c.tail[c.n] = p[0]
		c.n++
		p = p[1:]
		if utf8.FullRune(c.tail[:c.n]) {
			if r, size := utf8.DecodeRune(c.tail[:c.n]); r == utf8.RuneError && size == 1 {
				return false
			}
			c.n = 0
		}
	}
	end := len(p) - cutSequence(p)
	if !utf8.Valid(p[:end]) {
		return false
	}
	c.n += copy(c.tail[c.n:], p[end:])
	return true
}

// complete reports whether the text may end here.
func (c *utf8Checker) complete() bool { return c.n == 0 }

// cutSequence is the length of the sequence at the end of p that needs more
// bytes and may still be valid with them.
func cutSequence(p []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(p); n++ {
		if utf8.RuneStart(p[len(p)-n]) {
			if utf8.FullRune(p[len(p)-n:]) {
				return 0
			}
			return n
		}
	}
	return 0
}
