package ws

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	asmutf8 "github.com/segmentio/asm/utf8"
)

// FuzzUTF8 holds the checker, for any cut, against the standard library, and
// makes sure that it finds the first impossible byte when it sees it.
func FuzzUTF8(f *testing.F) {
	for _, s := range []string{"", "ascii", "¢€𐍈", "\xff", "\xe2\x82", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc0\xaf", "a\x80"} {
		f.Add(uint16(0), []byte(s), []byte{0})
		f.Add(uint16(0), []byte(s+s), []byte{1, 2})
		f.Add(uint16(36*9), []byte(s+"¢€𐍈"), []byte{255, 1})
	}
	long := bytes.Repeat([]byte("ž€𐍈"), 100)
	f.Fuzz(func(t *testing.T, before uint16, text, sizes []byte) {
		n := int(before) % len(long)
		text = append(long[:n:n], text...)
		var pieces [][]byte
		for i := 0; len(text) > 0; i++ {
			size := len(text)
			if len(sizes) > 0 {
				size = min(size, 1+4*int(sizes[i%len(sizes)]))
			}
			pieces = append(pieces, text[:size])
			text = text[size:]
		}
		checkUTF8(t, pieces...)
	})
}

// Bad text is found at its first impossible byte, wherever vectors of 32 bytes and
// pieces end.
func TestUTF8AcrossVectors(t *testing.T) {
	const before = "𐍈"
	for _, text := range []string{
		"¢", "€", "𐍈", "\x80", "\xbf", "\xc0\xaf", "\xc1\xbf", "\xc2", "\xc2A", "\xe0\x80\x80", "\xe0\x9f\xbf", "\xe0\xa0\x80", "\xe1\x80",
		"\xed\x9f\xbf", "\xed\xa0\x80", "\xef\xbf\xbf", "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf", "\xf0\x90\x80\x80", "\xf1\x80\x80",
		"\xf4\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xfe", "\xff",
	} {
		for cut := range len(text) + 1 {
			for n := range 32 {
				first := n % len(before)
				ascii := bytes.Repeat([]byte("a"), utf8Block+n)
				checkUTF8(t, []byte(before[:first]), slices.Concat([]byte(before[first:]), ascii, []byte(text[:cut])))
			}
		}
	}
}

// checkUTF8 holds the checker against the standard library.
func checkUTF8(t *testing.T, pieces ...[]byte) {
	t.Helper()
	var (
		c    UTF8Checker
		seen []byte
	)
	for _, piece := range pieces {
		seen = append(seen, piece...)
		ok := c.Write(piece)
		if want := canBeUTF8(seen); ok != want {
			t.Fatalf("%q: %t, want %t", seen, ok, want)
		}
		if !ok {
			return
		}
	}
	if c.Complete() != utf8.Valid(seen) {
		t.Fatalf("%q: complete is %t", seen, c.Complete())
	}
}

// canBeUTF8 reports whether some bytes can follow that make p UTF-8.
func canBeUTF8(p []byte) bool {
	for _, end := range []string{"", "\x80", "\x80\x80", "\x80\x80\x80", "\xbf", "\xbf\xbf", "\xbf\xbf\xbf", "\x90\x80\x80", "\xa0\x80", "\x8f\xbf\xbf", "\x9f\xbf"} {
		if utf8.Valid(append(bytes.Clone(p), end...)) {
			return true
		}
	}
	return false
}

// On processors without AVX2, arm64 among them, segmentio's library checks with the
// standard library.
func BenchmarkUTF8(b *testing.B) {
	for name, text := range map[string]string{
		"ascii":    strings.Repeat("a", 64<<10),
		"german":   strings.Repeat("Zwölf Boxkämpfer jagen Viktor quer über den großen Deich. ", 1<<10),
		"greek":    strings.Repeat("Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. ", 1<<10),
		"chinese":  strings.Repeat("视野无限广，窗外有蓝天。", 2<<10),
		"all ends": strings.Repeat("ž€𐍈", 64<<10/9),
	} {
		p := []byte(text)
		for checker, valid := range map[string]func([]byte) bool{
			"checker": func(p []byte) bool {
				var c UTF8Checker
				return c.Write(p) && c.Complete()
			},
			"segmentio":        asmutf8.Valid,
			"standard library": utf8.Valid,
		} {
			b.Run(name+"/"+checker, func(b *testing.B) {
				b.SetBytes(int64(len(p)))
				for b.Loop() {
					if !valid(p) {
						b.Fatal("not valid")
					}
				}
			})
		}
	}
}
