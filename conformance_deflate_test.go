package caddywebsocket

import (
	"strings"
	"testing"
)

// deflateMessages is RFC 7692 §6, §7.2.2 and §7.2.3. z+ stands for a message that
// is compressed by itself, as both sides do without context takeover.
var deflateMessages = []exchange{
	{rule: "7692 6.1 text", only: "deflate", sent: `z+T:Hello`, want: `z+T:Hello`},
	{rule: "7692 6.1 binary", only: "deflate", sent: `z+B:\x00\xff\x00`, want: `z+B:\x00\xff\x00`},
	{rule: "7692 7.2.3.6 empty text", only: "deflate", sent: `z+T:`, want: `z+T:`},
	{rule: "7692 7.2.3.6 empty message of one byte", only: "deflate", sent: `rsv1+B:\x00`, want: `z+B:`},
	{rule: "7692 6.1 not compressed", only: "deflate", sent: `T:Hello B:x`, want: `T:Hello B:x`},
	{rule: "7692 6.1 not compressed, empty", only: "deflate", sent: `T: z+T: B:`, want: `T: z+T: B:`},
	{rule: "7692 6.1 compressed and not", only: "deflate", sent: `z+T:one T:two z+B:three b:fo C:ur z+T:five`, want: `z+T:one T:two z+B:three B:four z+T:five`},
	{rule: "7692 7.1.1.2 the same twice", only: "deflate", sent: `z+T:%500 z+T:%500`, want: `z+T:%500 z+T:%500`},
	{rule: "7692 6.1 text of 125", only: "deflate", sent: `z+T:%125`, want: `z+T:%125`},
	{rule: "7692 6.1 text of 126", only: "deflate", sent: `z+T:%126`, want: `z+T:%126`},
	{rule: "7692 6.1 text of 4096", only: "deflate", sent: `z+T:%4096`, want: `z+T:%4096`},
	{rule: "7692 6.1 text of 65535", only: "deflate", sent: `z+T:%65535`, want: `z+T:%65535`},
	{rule: "7692 6.1 text of 65536", only: "deflate", sent: `z+T:%65536`, want: `z+T:%65536`},
	{rule: "7692 6.1 text of 300000", only: "deflate", sent: `z+T:%300000`, want: `z+T:%300000`},
	{rule: "7692 6.1 text beyond the window", only: "deflate", sent: `z+T:é*100000`, want: `z+T:é*100000`},
	{rule: "7692 6.1 as long as max_message_size", only: "deflate", sent: `z+B:x*1048576`, want: `z+B:x*1048576`},
	{rule: "7692 7.2.3.1 one block", only: "deflate", sent: `rsv1+T:\xf2\x48\xcd\xc9\xc9\x07\x00`, want: `z+T:Hello`},
	{rule: "7692 7.2.3.1 two fragments", only: "deflate", sent: `rsv1+t:\xf2\x48\xcd C:\xc9\xc9\x07\x00`, want: `z+T:Hello`},
	{rule: "7692 7.2.3.1 ping between fragments", only: "deflate", sent: `rsv1+t:\xf2\x48\xcd P:x c: C:\xc9\xc9\x07\x00`, want: `O:x z+T:Hello`},
	{rule: "7692 7.2.3.1 first fragment empty", only: "deflate", sent: `rsv1+t: c:\xf2\x48\xcd\xc9\xc9\x07\x00 C:`, want: `z+T:Hello`},
	{rule: "7692 7.2.3.1 a fragment for each byte", only: "deflate", sent: `rsv1+t:\xf2 c:\x48 c:\xcd c:\xc9 c:\xc9 c:\x07 C:\x00`, want: `z+T:Hello`},
	{rule: "7692 7.2.3.1 close between fragments", only: "deflate", sent: `rsv1+t:\xf2\x48 X:1000,bye`, want: `X:1000,bye`},
	{rule: "7692 7.2.3.3 block without compression", only: "deflate", sent: `rsv1+T:\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00`, want: `z+T:Hello`},
	{rule: "7692 7.2.3.4 block marked as the last", only: "deflate", sent: `rsv1+T:\xf3\x48\xcd\xc9\xc9\x07\x00\x00`, want: `z+T:Hello`},
	{rule: "7692 7.2.3.4 block marked as the last, and no more", only: "deflate", sent: `rsv1+T:\xf3\x48\xcd\xc9\xc9\x07\x00`, want: `z+T:Hello`},
	{rule: "7692 7.2.3.4 more after a block marked as the last", only: "deflate", sent: `rsv1+T:\xf3\x48\x05\x00\xca\xc9\xc9\x07\x00`, want: `z+T:Hello`},
	{rule: "7692 7.2.3.4 block marked as the last, in a fragment", only: "deflate", sent: `rsv1+t:\xf3\x48\x05\x00 P:x C:\xca\xc9\xc9\x07\x00`, want: `O:x z+T:Hello`},
	{rule: "7692 7.2.3.5 two blocks", only: "deflate", sent: `rsv1+T:\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00`, want: `z+T:Hello`},
	{rule: "7692 7.2.2 marker left on", only: "deflate", sent: `rsv1+T:\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff\x00`, want: `z+T:Hello`},
	{rule: "7692 7.2.1 characters", only: "deflate", sent: `z+T:κόσμε€𐍈`, want: `z+T:κόσμε€𐍈`},
}

// deflateBroken is what breaks RFC 7692, and data that are none.
var deflateBroken = []exchange{
	{rule: "7692 6 RSV1 on a ping", sent: `rsv1+P:x`, want: `X:1002~reserved`},
	{rule: "7692 6 RSV1 on a pong, empty", sent: `rsv1+O:`, want: `X:1002~reserved`},
	{rule: "7692 6 RSV1 on an empty close", sent: `rsv1+X:`, want: `X:1002~reserved`},
	{rule: "7692 6 RSV1 on a ping between fragments", only: "deflate", sent: `rsv1+t:\xf2\x48 rsv1+P:x`, want: `X:1002~reserved`},
	{rule: "7692 6.1 RSV1 on a continuation", only: "deflate", sent: `rsv1+t:\xf2\x48\xcd rsv1+C:\xc9\xc9\x07\x00`, want: `X:1002~reserved`},
	{rule: "7692 6.1 RSV1 on a continuation of an uncompressed message", sent: `t:a rsv1+C:b`, want: `X:1002~reserved`},
	{rule: "7692 6.1 RSV1 on an empty continuation", sent: `b: rsv1+c:`, want: `X:1002~reserved`},
	{rule: "7692 6 RSV2 beside RSV1", sent: `rsv1+rsv2+T:x`, want: `X:1002~reserved`},
	{rule: "7692 6 RSV3 beside RSV1", sent: `rsv1+rsv3+B:x`, want: `X:1002~reserved`},
	{rule: "7692 6.1 compressed message in a message", only: "deflate", sent: `t:a z+T:b`, want: `X:1002~new`},
	{rule: "7692 6.1 message in a compressed message", only: "deflate", sent: `rsv1+t:\xf2 T:b`, want: `X:1002~new`},
	{rule: "7692 5.1 not negotiated", only: "plain", sent: `T:ok z+T:Hello`, want: `T:ok X:1002~reserved`},
	{rule: "7692 7.2.2 reserved block type", only: "deflate", sent: `rsv1+T:\xff\xff\xff`, want: `X:1007~corrupt`},
	{rule: "7692 7.2.2 reserved block type, rest never sent", only: "deflate", sent: `rsv1+T:\x07rest@1`, want: `X:1007~corrupt`},
	{rule: "7692 7.2.2 reserved block type, in the first fragment", only: "deflate", sent: `rsv1+t:\x07`, want: `X:1007~corrupt`},
	{rule: "7692 7.2.2 stored block with two lengths", only: "deflate", sent: `rsv1+B:\x00\x05\x00\x00\x00hello`, want: `X:1007~corrupt`},
	{rule: "7692 7.2.2 data that end early", only: "deflate", sent: `rsv1+B:\x00\x05\x00\xfa\xffHel`, want: `X:1007~corrupt`},
	{rule: "7692 7.2.2 distance before the start", only: "deflate", sent: `rsv1+T:\x4a\x04\x42\x00`, want: `X:1007~corrupt`},
	{rule: "7692 7.2.2 window of the last message", only: "deflate", sent: `rsv1+T:\xf2\x48\xcd\xc9\xc9\x07\x00 rsv1+T:\xf2\x00\x11\x00\x00`, want: `z+T:Hello X:1007~corrupt`},
	{rule: "7692 7.2.2 good message, then no data", only: "deflate", sent: `z+T:good rsv1+T:\xff\xff`, want: `z+T:good X:1007~corrupt`},
	{rule: "7692 8.1 stored block that is not UTF-8", only: "deflate", sent: `rsv1+T:\x00\x05\x00\xfa\xffHel\xed\xa0\x00`, want: `X:1007~UTF-8`},
	{rule: "7692 bomb", only: "deflate", sent: `z+B:\x00*3000000`, want: `X:1009~1048576`},
	{rule: "7692 bomb of text", only: "deflate", sent: `z+T:a*3000000`, want: `X:1009~1048576`},
	{rule: "7692 bomb by a byte", only: "deflate", sent: `z+B:x*1048577`, want: `X:1009~1048576`},
	{rule: "7692 bomb in fragments, last never sent", only: "deflate", sent: `rsv1+b:\xec\xc1\x81 c: C:x`, want: `X:1007~corrupt`},
}

// The offers of RFC 7692 §7.1, and what is accepted of them.
var offers = []struct {
	rule, offer string
	accepted    bool
}{
	{"5.1 none", "-", false},
	{"5.1 another extension", "x-webkit-deflate-frame", false},
	{"5.1 bare", "permessage-deflate", true},
	{"5.1 in capitals", "Permessage-Deflate", false},
	{"5.1 empty list", "", false},
	{"5.1 empty elements", ", permessage-deflate,,", true},
	{"5.1 second of three", "permessage-bzip2, permessage-deflate, x", true},
	{"7.1 unknown parameter", "permessage-deflate; unknown", false},
	{"7.1 unknown parameter, then a fallback", "permessage-deflate; unknown, permessage-deflate", true},
	{"7.1.1.1 server_no_context_takeover", "permessage-deflate; server_no_context_takeover", true},
	{"7.1.1.1 with a value", "permessage-deflate; server_no_context_takeover=1", false},
	{"7.1.1.1 twice", "permessage-deflate; server_no_context_takeover; server_no_context_takeover", false},
	{"7.1.1.2 client_no_context_takeover", "permessage-deflate; client_no_context_takeover", true},
	{"7.1.1.2 with a value", "permessage-deflate; client_no_context_takeover=0", false},
	{"7.1.1.2 twice", "permessage-deflate; client_no_context_takeover; client_no_context_takeover", false},
	{"7.1.1 both", "permessage-deflate;client_no_context_takeover ; server_no_context_takeover", true},
	{"7.1.2.1 server_max_window_bits=8", "permessage-deflate; server_max_window_bits=8", false},
	{"7.1.2.1 server_max_window_bits=10", "permessage-deflate; server_max_window_bits=10", false},
	{"7.1.2.1 without a value", "permessage-deflate; server_max_window_bits", false},
	{"7.1.2.1 with a fallback", "permessage-deflate; server_max_window_bits=10, permessage-deflate", true},
	{"7.1.2.2 client_max_window_bits", "permessage-deflate; client_max_window_bits", true},
	{"7.1.2.2 8", "permessage-deflate; client_max_window_bits=8", true},
	{"7.1.2.2 10", "permessage-deflate; client_max_window_bits=10", true},
	{"7.1.2.2 15", "permessage-deflate; client_max_window_bits=15", true},
	{"7.1.2.2 quoted", `permessage-deflate; client_max_window_bits="10"`, true},
	{"7.1.2.2 7", "permessage-deflate; client_max_window_bits=7", false},
	{"7.1.2.2 16", "permessage-deflate; client_max_window_bits=16", false},
	{"7.1.2.2 leading zero", "permessage-deflate; client_max_window_bits=08", false},
	{"7.1.2.2 negative", "permessage-deflate; client_max_window_bits=-8", false},
	{"7.1.2.2 no number", "permessage-deflate; client_max_window_bits=x", false},
	{"7.1.2.2 twice", "permessage-deflate; client_max_window_bits; client_max_window_bits=10", false},
}

func TestOffers(t *testing.T) {
	s := start(t, "websocket /on {\ncompression on\n}\nwebsocket /off\nrespond 204")
	s.share(t)
	const accepted = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	for _, protocol := range protocols {
		for _, o := range offers {
			t.Run(protocol+"/"+o.rule, func(t *testing.T) {
				for path, want := range map[string]string{"/on": accepted, "/off": ""} {
					if !o.accepted {
						want = ""
					}
					p := s.dial(t, protocol, path, "Sec-WebSocket-Extensions", o.offer)
					if got := strings.Join(p.res.Header["Sec-Websocket-Extensions"], "|"); got != want {
						t.Errorf("%s: %s: got %q, want %q", path, o.offer, got, want)
					}
					p.rw.Close()
				}
			})
		}
	}
}
