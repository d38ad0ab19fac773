package conformance

import (
	"fmt"
	"strings"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// sequences are what Autobahn has in category 6, and more. The number is that of
// the bytes up to and with the first that can't be UTF-8; 0: it is; -1: it ends
// too early.
var sequences = []struct {
	rule  string
	bytes string // with Go's escapes
	bad   int
}{
	{"ASCII", `Hello`, 0},
	{"all of ASCII's ends", `\x00\x01\x7f`, 0},
	{"Greek", `κόσμε`, 0},
	{"first of 2 bytes", `\xc2\x80`, 0},
	{"last of 2 bytes", `\xdf\xbf`, 0},
	{"first of 3 bytes", `\xe0\xa0\x80`, 0},
	{"last of 3 bytes", `\xef\xbf\xbf`, 0},
	{"first of 4 bytes", `\xf0\x90\x80\x80`, 0},
	{"last of all", `\xf4\x8f\xbf\xbf`, 0},
	{"last before the surrogates", `\xed\x9f\xbf`, 0},
	{"first after the surrogates", `\xee\x80\x80`, 0},
	{"replacement character", `\xef\xbf\xbd`, 0},
	{"byte order mark", `\xef\xbb\xbfa`, 0},
	{"noncharacter U+FFFE", `\xef\xbf\xbe`, 0},
	{"noncharacter U+FDD0", `\xef\xb7\x90`, 0},
	{"noncharacter U+1FFFE", `\xf0\x9f\xbf\xbe`, 0},
	{"noncharacter U+1FFFF", `\xf0\x9f\xbf\xbf`, 0},
	{"noncharacter U+3FFFF", `\xf0\xbf\xbf\xbf`, 0},
	{"noncharacter U+10FFFE", `\xf4\x8f\xbf\xbe`, 0},
	{"combining characters", `e\xcc\x81\xcc\xa7`, 0},
	{"all lengths", `$¢€𐍈𐍈€¢$`, 0},

	{"overlong slash of 2 bytes", `\xc0\xaf`, 1},
	{"overlong slash of 3 bytes", `\xe0\x80\xaf`, 2},
	{"overlong slash of 4 bytes", `\xf0\x80\x80\xaf`, 2},
	{"overlong slash of 5 bytes", `\xf8\x80\x80\x80\xaf`, 1},
	{"overlong slash of 6 bytes", `\xfc\x80\x80\x80\x80\xaf`, 1},
	{"longest overlong of 2 bytes", `\xc1\xbf`, 1},
	{"longest overlong of 3 bytes", `\xe0\x9f\xbf`, 2},
	{"longest overlong of 4 bytes", `\xf0\x8f\xbf\xbf`, 2},
	{"overlong zero of 2 bytes", `\xc0\x80`, 1},
	{"overlong zero of 3 bytes", `\xe0\x80\x80`, 2},
	{"overlong zero of 4 bytes", `\xf0\x80\x80\x80`, 2},
	{"surrogate U+D800", `\xed\xa0\x80`, 2},
	{"surrogate U+DB7F", `\xed\xad\xbf`, 2},
	{"surrogate U+DC00", `\xed\xb0\x80`, 2},
	{"surrogate U+DFFF", `\xed\xbf\xbf`, 2},
	{"pair of surrogates", `\xed\xa0\x80\xed\xb0\x80`, 2},
	{"U+110000", `\xf4\x90\x80\x80`, 2},
	{"U+13FFFF", `\xf4\xbf\xbf\xbf`, 2},
	{"U+140000", `\xf5\x80\x80\x80`, 1},
	{"U+1FFFFF", `\xf7\xbf\xbf\xbf`, 1},
	{"5 bytes", `\xf8\x88\x80\x80\x80`, 1},
	{"6 bytes", `\xfc\x84\x80\x80\x80\x80`, 1},
	{"byte FE", `\xfe`, 1},
	{"byte FF", `\xff`, 1},
	{"bytes FE FF", `\xfe\xfe\xff\xff`, 1},
	{"continuation byte", `\x80`, 1},
	{"last continuation byte", `\xbf`, 1},
	{"continuation bytes", `\x80\xbf\x80\xbf`, 1},
	{"start of 2 bytes, then space", `\xc3\x20`, 2},
	{"start of 3 bytes, then space", `\xe2\x20`, 2},
	{"start of 4 bytes, then space", `\xf0\x20`, 2},
	{"two of 3 bytes, then a letter", `\xe2\x82z`, 3},
	{"two of 4 bytes, then a letter", `\xf0\x90z`, 3},
	{"three of 4 bytes, then a letter", `\xf0\x90\x8dz`, 4},
	{"start of 2 bytes, twice", `\xc3\xc3`, 2},
	{"three of 4 bytes, then a start", `\xf0\x90\x8d\xf0`, 4},
	{"one continuation byte too many", `\xc3\xa9\xa9`, 3},
	{"Greek, then a surrogate", `κόσμε\xed\xa0\x80edited`, 12},
	{"Greek, then too much", `κόσμε\xf4\x90\x80\x80edited`, 12},

	{"one of 2 bytes", `\xc3`, -1},
	{"one of 3 bytes", `\xe2`, -1},
	{"two of 3 bytes", `\xe2\x82`, -1},
	{"one of 4 bytes", `\xf0`, -1},
	{"two of 4 bytes", `\xf0\x90`, -1},
	{"three of 4 bytes", `\xf0\x90\x8d`, -1},
	{"Greek, cut", `κόσμ\xce`, -1},
}

// utf8Text has each sequence in a frame, in frames of a byte each, in a reason,
// and so that nothing but its first impossible byte can be what ends the socket.
var utf8Text = func() (exchanges []Exchange) {
	for _, s := range sequences {
		text := wstest.ParsePayload(ws.OpText, s.bytes)
		var pieces strings.Builder
		pieces.WriteString("t:")
		for _, b := range text {
			fmt.Fprintf(&pieces, ` c:\x%02x P:`, b)
		}
		pongs := strings.Repeat("O: ", len(text))
		verdict := "X:1007~UTF-8"
		if s.bad > 0 {
			pongs = strings.Repeat("O: ", s.bad-1)
		}
		if s.bad == 0 {
			verdict = "T:" + s.bytes
			exchanges = append(exchanges,
				Exchange{Rule: "8.1 reason: " + s.rule, Sent: "X:1000," + s.bytes, Want: "X:1000," + s.bytes})
		} else {
			exchanges = append(exchanges,
				Exchange{Rule: "8.1 reason: " + s.rule, Sent: "X:1000," + s.bytes, Want: "X:1007~UTF-8"},
				Exchange{Rule: "8.1 compressed: " + s.rule, Sent: "z+T:" + s.bytes, Want: verdict, Only: "deflate"},
				Exchange{Rule: "8.1 last of a long message: " + s.rule, Sent: "t:x*70000 C:" + s.bytes, Want: verdict},
			)
		}
		if s.bad > 0 {
			exchanges = append(exchanges, Exchange{
				Rule: "8.1 first impossible byte: " + s.rule,
				Sent: fmt.Sprintf("T:ok t:good%s%s@%d", s.bytes, `\x20`, len("good")+s.bad), Want: "T:ok " + verdict,
			})
		}
		exchanges = append(exchanges,
			Exchange{Rule: "8.1 text: " + s.rule, Sent: "T:" + s.bytes, Want: verdict},
			Exchange{Rule: "8.1 byte by byte: " + s.rule, Sent: pieces.String() + " C:", Want: pongs + verdict},
		)
	}
	return exchanges
}()

// utf8Cut is text that is cut where it may be, and bad text far into a frame.
var utf8Cut = []Exchange{
	{Rule: "8.1 character over two fragments", Sent: `t:a\xe2 C:\x82\xacb`, Want: `T:a€b`},
	{Rule: "8.1 character over three fragments", Sent: `t:\xe2 c:\x82 C:\xac`, Want: `T:€`},
	{Rule: "8.1 character over four fragments, with empty ones", Sent: `t:\xf0 c: c:\x90 c: c:\x8d C:\x88`, Want: `T:𐍈`},
	{Rule: "8.1 character that no fragment ends", Sent: `t:\xe2 c:\x82 C:`, Want: `X:1007~UTF-8`},
	{Rule: "8.1 next message doesn't end the character", Sent: `T:\xe2 T:\x82\xac`, Want: `X:1007~UTF-8`},
	{Rule: "8.1 each message begins anew", Sent: `B:\xe2 T:a B:\x82 T:€`, Want: `B:\xe2 T:a B:\x82 T:€`},
	{Rule: "8.1 bad byte in the second fragment, rest never sent", Sent: `t:good c:\xc0rest@1`, Want: `X:1007~UTF-8`},
	{Rule: "8.1 bad byte in the second fragment, no third", Sent: `t:good c:\xc0`, Want: `X:1007~UTF-8`},
	{Rule: "8.1 bad text before a ping", Sent: `T:\xff P:x`, Want: `X:1007~UTF-8`},
	{Rule: "8.1 ping before bad text", Sent: `t:a P:x C:\xff`, Want: `O:x X:1007~UTF-8`},
	{Rule: "8.1 characters across buffers", Sent: `T:€*30000`, Want: `T:€*30000`},
	{Rule: "5.6 binary of bytes that are no text", Sent: `B:\xff\xfe\xc0\xaf\xed\xa0\x80`, Want: `B:\xff\xfe\xc0\xaf\xed\xa0\x80`},
	{Rule: "8.1 binary is not text", Sent: `b:\xff c:\xfe C:\xfd`, Want: `B:\xff\xfe\xfd`},
	{Rule: "8.1 bad reason after good messages", Sent: `T:a X:1000,a\xc0`, Want: `T:a X:1007~UTF-8`},
	{Rule: "8.1 bad reason between fragments", Sent: `t:a X:1000,\xe2\x82 C:b`, Want: `X:1007~UTF-8`},
}
