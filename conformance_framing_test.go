package caddywebsocket

import "slices"

// framing is RFC 6455 §5.1 to §5.3 and §5.6: the mask, the bits and the length of
// a frame.
var framing = slices.Concat([]exchange{
	{rule: "5.1 unmasked text", sent: `bare+T:hi`, want: `X:1002~masked`},
	{rule: "5.1 unmasked text, empty", sent: `bare+T:`, want: `X:1002~masked`},
	{rule: "5.1 unmasked binary", sent: `bare+B:hi`, want: `X:1002~masked`},
	{rule: "5.1 unmasked ping", sent: `bare+P:hi`, want: `X:1002~masked`},
	{rule: "5.1 unmasked pong", sent: `bare+O:hi`, want: `X:1002~masked`},
	{rule: "5.1 unmasked close", sent: `bare+X:1000`, want: `X:1002~masked`},
	{rule: "5.1 unmasked close, empty", sent: `bare+X:`, want: `X:1002~masked`},
	{rule: "5.1 unmasked continuation", sent: `t:a bare+C:b`, want: `X:1002~masked`},
	{rule: "5.1 unmasked after masked", sent: `T:a bare+T:b`, want: `T:a X:1002~masked`},
	{rule: "5.1 unmasked long", sent: `bare+T:%200@0`, want: `X:1002~masked`},
	{rule: "5.1 unmasked, with no more than two bytes of it", sent: `#8105`, want: `X:1002~masked`},

	{rule: "5.3 mask of zeros", sent: `zero+T:hello zero+B:%5000`, want: `T:hello B:%5000`},
	{rule: "5.3 mask of ones", sent: `ones+T:hello ones+B:%5000`, want: `T:hello B:%5000`},
	{rule: "5.3 a new mask with each frame", sent: `zero+t:one c:two ones+c:three zero+C:four`, want: `T:onetwothreefour`},
	{rule: "5.3 mask of zeros on a ping", sent: `zero+P:ping ones+P:pong`, want: `O:ping O:pong`},
	{rule: "5.3 mask of zeros on a close", sent: `zero+X:1000,bye`, want: `X:1000,bye`},
	{rule: "5.3 mask of ones on a close", sent: `ones+X:3000,bye`, want: `X:3000,bye`},

	{rule: "5.2 RSV1 on text", sent: `rsv1+T:hi`, want: `X:1002~reserved`, only: "plain"},
	{rule: "5.2 RSV1 on binary", sent: `rsv1+B:hi`, want: `X:1002~reserved`, only: "plain"},
	{rule: "5.2 RSV1 on a first fragment", sent: `rsv1+t:hi C:`, want: `X:1002~reserved`, only: "plain"},
	{rule: "5.2 RSV1 on an empty message", sent: `rsv1+T:`, want: `X:1002~reserved`, only: "plain"},
	{rule: "5.2 RSV1 on a close", sent: `rsv1+X:1000`, want: `X:1002~reserved`},
	{rule: "5.2 RSV1 on a pong", sent: `rsv1+O:hi`, want: `X:1002~reserved`},
	{rule: "5.2 RSV2 on text", sent: `rsv2+T:hi`, want: `X:1002~reserved`},
	{rule: "5.2 RSV2 on binary", sent: `rsv2+B:hi`, want: `X:1002~reserved`},
	{rule: "5.2 RSV2 on a continuation", sent: `t:a rsv2+C:b`, want: `X:1002~reserved`},
	{rule: "5.2 RSV2 on a ping", sent: `rsv2+P:hi`, want: `X:1002~reserved`},
	{rule: "5.2 RSV2 on a pong", sent: `rsv2+O:hi`, want: `X:1002~reserved`},
	{rule: "5.2 RSV2 on a close", sent: `rsv2+X:1000`, want: `X:1002~reserved`},
	{rule: "5.2 RSV3 on text", sent: `rsv3+T:hi`, want: `X:1002~reserved`},
	{rule: "5.2 RSV3 on binary", sent: `rsv3+B:hi`, want: `X:1002~reserved`},
	{rule: "5.2 RSV3 on a continuation", sent: `t:a rsv3+C:b`, want: `X:1002~reserved`},
	{rule: "5.2 RSV3 on a ping", sent: `rsv3+P:hi`, want: `X:1002~reserved`},
	{rule: "5.2 RSV3 on a pong", sent: `rsv3+O:hi`, want: `X:1002~reserved`},
	{rule: "5.2 RSV3 on a close", sent: `rsv3+X:1000`, want: `X:1002~reserved`},
	{rule: "5.2 RSV1 and RSV2", sent: `rsv1+rsv2+T:hi`, want: `X:1002~reserved`},
	{rule: "5.2 RSV1 and RSV3", sent: `rsv1+rsv3+T:hi`, want: `X:1002~reserved`},
	{rule: "5.2 RSV2 and RSV3", sent: `rsv2+rsv3+B:hi`, want: `X:1002~reserved`},
	{rule: "5.2 all reserved bits", sent: `rsv1+rsv2+rsv3+T:hi`, want: `X:1002~reserved`},
	{rule: "5.2 reserved bit after good messages", sent: `T:one B:two P:three rsv3+T:four`, want: `T:one B:two O:three X:1002~reserved`},
	{rule: "5.2 reserved bit in one byte", sent: `#a1`, want: `X:1002~reserved`},
	{rule: "5.2 reserved bit between fragments", sent: `t:one rsv2+P:two C:three`, want: `X:1002~reserved`},
	{rule: "5.2 message after a reserved bit", sent: `rsv2+T:one T:two`, want: `X:1002~reserved`},
}, reservedOpcodes(), lengths)

// reservedOpcodes are the frames with one, with and without the fin bit, and
// between fragments.
func reservedOpcodes() (exchanges []exchange) {
	for _, op := range []string{"3", "4", "5", "6", "7", "b", "c", "d", "e", "f"} {
		exchanges = append(exchanges,
			exchange{rule: "5.2 opcode " + op, sent: `T:ok #8` + op + `8037fa213d`, want: `T:ok X:1002~opcode`},
			exchange{rule: "5.2 opcode " + op + " with payload, without fin", sent: `#0` + op + `8137fa213d00`, want: `X:1002~opcode`},
			exchange{rule: "5.2 opcode " + op + " in one byte, between fragments", sent: `t:a #8` + op, want: `X:1002~opcode`},
		)
	}
	return exchanges
}

// lengths are those around which headers, buffers and frames change. Autobahn has
// these in categories 1 and 9.
var lengths = []exchange{
	{rule: "5.2 text of 0", sent: `T:`, want: `T:`},
	{rule: "5.2 text of 1", sent: `T:x`, want: `T:x`},
	{rule: "5.2 text of 125", sent: `T:%125`, want: `T:%125`},
	{rule: "5.2 text of 126", sent: `T:%126`, want: `T:%126`},
	{rule: "5.2 text of 127", sent: `T:%127`, want: `T:%127`},
	{rule: "5.2 text of 128", sent: `T:%128`, want: `T:%128`},
	{rule: "5.2 text of 4095", sent: `T:%4095`, want: `T:%4095`},
	{rule: "5.2 text of 4096", sent: `T:%4096`, want: `T:%4096`},
	{rule: "5.2 text of 4097", sent: `T:%4097`, want: `T:%4097`},
	{rule: "5.2 text of 65535", sent: `T:%65535`, want: `T:%65535`},
	{rule: "5.2 text of 65536", sent: `T:%65536`, want: `T:%65536`},
	{rule: "5.2 text of 65537", sent: `T:%65537`, want: `T:%65537`},
	{rule: "5.2 text of 262144", sent: `T:%262144`, want: `T:%262144`},
	{rule: "5.2 binary of 0", sent: `B:`, want: `B:`},
	{rule: "5.2 binary of 1", sent: `B:\x00`, want: `B:\x00`},
	{rule: "5.2 binary of 125", sent: `B:\xfe*125`, want: `B:\xfe*125`},
	{rule: "5.2 binary of 126", sent: `B:\xfe*126`, want: `B:\xfe*126`},
	{rule: "5.2 binary of 127", sent: `B:\xfe*127`, want: `B:\xfe*127`},
	{rule: "5.2 binary of 128", sent: `B:\xfe*128`, want: `B:\xfe*128`},
	{rule: "5.2 binary of 65535", sent: `B:%65535`, want: `B:%65535`},
	{rule: "5.2 binary of 65536", sent: `B:%65536`, want: `B:%65536`},
	{rule: "5.2 binary of 65537", sent: `B:%65537`, want: `B:%65537`},
	{rule: "5.2 binary of 1 MiB", sent: `B:%1048576`, want: `B:%1048576`},
	{rule: "5.2 many messages at once", sent: `T:1 B:2 T:3 B:%300 T: B: T:%126 B:%70000 T:9`, want: `T:1 B:2 T:3 B:%300 T: B: T:%126 B:%70000 T:9`},

	{rule: "5.2 16-bit length of 0", sent: `wide+T:`, want: `X:1002~shortest`},
	{rule: "5.2 16-bit length of 1", sent: `wide+B:x`, want: `X:1002~shortest`},
	{rule: "5.2 16-bit length of 125", sent: `wide+B:%125`, want: `X:1002~shortest`},
	{rule: "5.2 16-bit length of 126", sent: `wide+B:%126`, want: `B:%126`},
	{rule: "5.2 16-bit length of 127", sent: `wide+B:%127`, want: `B:%127`},
	{rule: "5.2 64-bit length of 0", sent: `huge+T:`, want: `X:1002~shortest`},
	{rule: "5.2 64-bit length of 125", sent: `huge+B:%125`, want: `X:1002~shortest`},
	{rule: "5.2 64-bit length of 126", sent: `huge+B:%126`, want: `X:1002~shortest`},
	{rule: "5.2 64-bit length of 65535", sent: `huge+B:%65535@0`, want: `X:1002~shortest`},
	{rule: "5.2 64-bit length of 65536", sent: `huge+B:%65536`, want: `B:%65536`},
	{rule: "5.2 16-bit length of 125 on a continuation", sent: `b:a wide+C:%125`, want: `X:1002~shortest`},
	{rule: "5.2 64-bit length with the highest bit", sent: `#82ff8000000000000000`, want: `X:1002~63`},
	{rule: "5.2 64-bit length of ones", sent: `#82ffffffffffffffffff`, want: `X:1002~63`},
	{rule: "5.2 64-bit length with the highest bit and 5", sent: `#82ff800000000000000537fa213d`, want: `X:1002~63`},
	{rule: "5.2 64-bit length with the highest bit on text", sent: `#81ff8000000000010000`, want: `X:1002~63`},
	{rule: "5.2 largest length", sent: `#82ff7fffffffffffffff37fa213d`, want: `X:1009~more`},
	{rule: "5.2 largest length on a continuation", sent: `b:a #80ff7fffffffffffffff37fa213d`, want: `X:1009~more`},
	{rule: "7.4.1 a message as long as max_message_size", sent: `b:x*1000000 C:x*48576`, want: `B:x*1048576`},
	{rule: "7.4.1 a frame longer than max_message_size", sent: `B:%1048577@0`, want: `X:1009~more`},
	{rule: "7.4.1 fragments longer than max_message_size", sent: `b:%65536 c:%65536 C:%1000000@0`, want: `X:1009~more`},
}
