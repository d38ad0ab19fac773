package wstest

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// Frames are written down as words, such as
//
//	t:Hel c: P:between C:lo X:1000,bye
//
// The letter is the opcode: Text, Binary, Continuation, Ping, pOng, X for Close;
// a small one leaves the fin bit off. The payload follows, with Go's escapes;
// %500 is 500 bytes of text, and é*60 is é 60 times. A Close has its code, a comma
// and its reason. After @ stands how many bytes of the payload are sent at all.
//
// Before the letter may stand, each with a plus sign, rsv1, rsv2 and rsv3; bare
// (no mask), zero and ones (the masking key); wide and huge (a length in 16 or 64
// bits whatever it is); and z (compressed, with RSV1). #83ff is bytes as they are.

// ClientBytes is what a client sends.
func ClientBytes(notation string) []byte {
	var b bytes.Buffer
	for word := range strings.FieldsSeq(notation) {
		if raw, ok := strings.CutPrefix(word, "#"); ok {
			p, err := hex.DecodeString(raw)
			if err != nil {
				panic(fmt.Sprintf("%s: %v", word, err))
			}
			b.Write(p)
			continue
		}
		w := parseWord(word)
		b.Write(w.header())
		payload := bytes.Clone(w.payload)
		if !w.bare {
			ws.Mask(payload, w.mask, 0)
		}
		b.Write(payload[:min(w.sent, len(payload))])
	}
	return b.Bytes()
}

// A notedFrame is a frame as written down.
type notedFrame struct {
	first   byte
	payload []byte
	plain   []byte // before it was compressed
	sent    int    // how many bytes of the payload are
	mask    [4]byte
	bare    bool
	form    int // of the length: 0: the shortest, or 126 or 127
}

var opcodeLetters = map[byte]ws.Opcode{
	'C': ws.OpContinuation, 'T': ws.OpText, 'B': ws.OpBinary, 'X': ws.OpClose, 'P': ws.OpPing, 'O': ws.OpPong,
}

// parsed are the words that have been parsed: each stands in many sessions.
var parsed sync.Map

func parseWord(word string) notedFrame {
	if f, ok := parsed.Load(word); ok {
		return f.(notedFrame)
	}
	f := parseNewWord(word)
	parsed.Store(word, f)
	return f
}

func parseNewWord(word string) notedFrame {
	head, rest, ok := strings.Cut(word, ":")
	if !ok {
		panic("no colon in " + word)
	}
	f := notedFrame{mask: MaskingKey}
	modifiers := strings.Split(head, "+")
	letter := modifiers[len(modifiers)-1]
	op, ok := opcodeLetters[strings.ToUpper(letter)[0]]
	if !ok || len(letter) != 1 {
		panic("unknown letter in " + word)
	}
	f.first = byte(op)
	if letter == strings.ToUpper(letter) {
		f.first |= ws.FinBit
	}
	rest, cut, isCut := strings.Cut(rest, "@")
	f.payload = ParsePayload(op, rest)
	for _, m := range modifiers[:len(modifiers)-1] {
		f.modify(m)
	}
	f.sent = len(f.payload)
	if isCut {
		f.sent = number(cut)
	}
	return f
}

func (f *notedFrame) modify(modifier string) {
	switch modifier {
	case "rsv1":
		f.first |= ws.RSV1Bit
	case "rsv2":
		f.first |= 0x20
	case "rsv3":
		f.first |= 0x10
	case "bare":
		f.bare = true
	case "zero":
		f.mask = [4]byte{}
	case "ones":
		f.mask = [4]byte{0xff, 0xff, 0xff, 0xff}
	case "wide":
		f.form = 126
	case "huge":
		f.form = 127
	case "z":
		f.first |= ws.RSV1Bit
		f.plain, f.payload = f.payload, Deflate(string(f.payload))
	default:
		panic("unknown modifier " + modifier)
	}
}

func (f *notedFrame) header() []byte {
	var head []byte
	switch f.form {
	case 126:
		head = binary.BigEndian.AppendUint16([]byte{f.first, 126}, uint16(len(f.payload)))
	case 127:
		head = binary.BigEndian.AppendUint64([]byte{f.first, 127}, uint64(len(f.payload)))
	default:
		head = ws.AppendHeader(nil, f.first, len(f.payload))
	}
	if f.first&0xf >= byte(ws.OpClose) && len(f.payload) > ws.MaxControlPayload && f.form == 0 {
		head = binary.BigEndian.AppendUint16([]byte{f.first, 126}, uint16(len(f.payload)))
	}
	if !f.bare {
		head[1] |= ws.MaskBit
		head = append(head, f.mask[:]...)
	}
	return head
}

// ParsePayload is the payload of a frame as written down.
func ParsePayload(op ws.Opcode, s string) []byte {
	if op == ws.OpClose && s != "" && s[0] >= '0' && s[0] <= '9' {
		code, reason, _ := strings.Cut(s, ",")
		return append(binary.BigEndian.AppendUint16(nil, uint16(number(code))), ParsePayload(ws.OpText, reason)...)
	}
	if size, ok := strings.CutPrefix(s, "%"); ok {
		return []byte(Letters(number(size)))
	}
	s, times, ok := strings.Cut(s, "*")
	text, err := strconv.Unquote(`"` + s + `"`)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", s, err))
	}
	if ok {
		text = strings.Repeat(text, number(times))
	}
	return []byte(text)
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

// Matches reports whether a frame or message is the one that is written down. A
// Close may have a tilde in place of the comma: then the reason has to contain
// what follows.
func Matches(word string, first byte, payload []byte) bool {
	if code, part, ok := strings.Cut(word, "~"); ok && first == ws.FinBit|byte(ws.OpClose) {
		want := parseWord(code).payload
		return len(payload) >= 2 && bytes.Equal(payload[:2], want) && strings.Contains(string(payload[2:]), part)
	}
	want := parseWord(word)
	if first&ws.RSV1Bit == 0 || want.plain == nil {
		return first == want.first && bytes.Equal(payload, want.payload)
	}
	message, code := TryInflate(payload)
	return first == want.first && code == 0 && bytes.Equal(message, want.plain)
}
