package echo

import (
	"errors"
	"fmt"
)

// An inflater inflates one message after the other (RFC 1951), and refuses references beyond a
// window, which Go's packages can't be told.
type inflater struct {
	window   int
	takeover bool // messages may refer to earlier ones
	out      []byte
	start    int // where the message begins in out

	in       []byte
	bit      uint
	farthest int // the largest distance so far
}

// message returns what a message inflates to.
func (f *inflater) message(payload []byte) (plain []byte, err error) {
	f.in, f.bit = append(append([]byte{}, payload...), deflateTail...), 0
	f.start = len(f.out)
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	for last := false; !last; {
		last = f.bits(1) == 1
		switch f.bits(2) {
		case 0:
			f.stored()
		case 1:
			f.block(fixedCodes())
		case 2:
			f.block(f.dynamicCodes())
		default:
			return nil, errors.New("reserved block type")
		}
	}
	return f.out[f.start:], nil
}

func (f *inflater) bits(n uint) (v int) {
	for i := range n {
		v |= int(f.in[f.bit/8]>>(f.bit%8)&1) << i
		f.bit++
	}
	return v
}

func (f *inflater) stored() {
	at := (f.bit + 7) / 8
	n := uint(f.in[at]) | uint(f.in[at+1])<<8
	f.out = append(f.out, f.in[at+4:at+4+n]...)
	f.bit = (at + 4 + n) * 8
}

// A code is a prefix code: the symbols, by their length and bits.
type code map[[2]int]int

func newCode(lengths []int) code {
	c, next := make(code), 0
	for length := 1; length <= 15; length++ {
		for symbol, l := range lengths {
			if l == length {
				c[[2]int{length, next}] = symbol
				next++
			}
		}
		next <<= 1
	}
	return c
}

func (f *inflater) symbol(c code) int {
	bits := 0
	for length := 1; length <= 15; length++ {
		bits = bits<<1 | f.bits(1)
		if symbol, ok := c[[2]int{length, bits}]; ok {
			return symbol
		}
	}
	panic("no such code")
}

func fixedCodes() (literals, distances code) {
	lengths := make([]int, 288)
	for i := range lengths {
		switch {
		case i < 144, i >= 280:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		default:
			lengths[i] = 7
		}
	}
	fives := make([]int, 30)
	for i := range fives {
		fives[i] = 5
	}
	return newCode(lengths), newCode(fives)
}

func (f *inflater) dynamicCodes() (literals, distances code) {
	nLiterals, nDistances, n := f.bits(5)+257, f.bits(5)+1, f.bits(4)+4
	order := []int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
	lengths := make([]int, 19)
	for _, symbol := range order[:n] {
		lengths[symbol] = f.bits(3)
	}
	c := newCode(lengths)
	var all []int
	repeat := func(length, times int) {
		for range times {
			all = append(all, length)
		}
	}
	for len(all) < nLiterals+nDistances {
		switch symbol := f.symbol(c); symbol {
		case 16:
			repeat(all[len(all)-1], f.bits(2)+3)
		case 17:
			repeat(0, f.bits(3)+3)
		case 18:
			repeat(0, f.bits(7)+11)
		default:
			repeat(symbol, 1)
		}
	}
	return newCode(all[:nLiterals]), newCode(all[nLiterals:])
}

func (f *inflater) block(literals, distances code) {
	for {
		symbol := f.symbol(literals)
		if symbol < 256 {
			f.out = append(f.out, byte(symbol))
			continue
		}
		if symbol == 256 {
			return
		}
		length := 258
		if symbol < 285 {
			length = f.extended(symbol-257, 4, 3)
		}
		distance := f.extended(f.symbol(distances), 2, 1)
		f.farthest = max(f.farthest, distance)
		from := len(f.out) - distance
		if distance > f.window || from < 0 || !f.takeover && from < f.start {
			panic(fmt.Sprintf("distance %d at byte %d of the message, with a window of %d", distance, len(f.out)-f.start, f.window))
		}
		for i := range length {
			f.out = append(f.out, f.out[from+i])
		}
	}
}

// extended returns the length or distance of a code, of which so many have the same number of
// extra bits.
func (f *inflater) extended(code, same, base int) int {
	if code < 2*same {
		return base + code
	}
	extra := code/same - 1
	return base + (same+code%same)<<extra + f.bits(uint(extra))
}
