package conformance

import "slices"

// framing is RFC 6455 §5.1 to §5.3 and §5.6: the mask, the bits and the length of
// a frame.
var framing = slices.Concat([]Exchange{
	{Rule: "5.1 unmasked text", Sent: `bare+T:hi`, Want: `X:1002~masked`},
	{Rule: "5.1 unmasked text, empty", Sent: `bare+T:`, Want: `X:1002~masked`},
	{Rule: "5.1 unmasked binary", Sent: `bare+B:hi`, Want: `X:1002~masked`},
	{Rule: "5.1 unmasked ping", Sent: `bare+P:hi`, Want: `X:1002~masked`},
	{Rule: "5.1 unmasked pong", Sent: `bare+O:hi`, Want: `X:1002~masked`},
	{Rule: "5.1 unmasked close", Sent: `bare+X:1000`, Want: `X:1002~masked`},
	{Rule: "5.1 unmasked close, empty", Sent: `bare+X:`, Want: `X:1002~masked`},
	{Rule: "5.1 unmasked continuation", Sent: `t:a bare+C:b`, Want: `X:1002~masked`},
	{Rule: "5.1 unmasked after masked", Sent: `T:a bare+T:b`, Want: `T:a X:1002~masked`},
	{Rule: "5.1 unmasked long", Sent: `bare+T:%200@0`, Want: `X:1002~masked`},
	{Rule: "5.1 unmasked, with no more than two bytes of it", Sent: `#8105`, Want: `X:1002~masked`},

	{Rule: "5.3 mask of zeros", Sent: `zero+T:hello zero+B:%5000`, Want: `T:hello B:%5000`},
	{Rule: "5.3 mask of ones", Sent: `ones+T:hello ones+B:%5000`, Want: `T:hello B:%5000`},
	{Rule: "5.3 a new mask with each frame", Sent: `zero+t:one c:two ones+c:three zero+C:four`, Want: `T:onetwothreefour`},
	{Rule: "5.3 mask of zeros on a ping", Sent: `zero+P:ping ones+P:pong`, Want: `O:ping O:pong`},
	{Rule: "5.3 mask of zeros on a close", Sent: `zero+X:1000,bye`, Want: `X:1000,bye`},
	{Rule: "5.3 mask of ones on a close", Sent: `ones+X:3000,bye`, Want: `X:3000,bye`},

	{Rule: "5.2 RSV1 on text", Sent: `rsv1+T:hi`, Want: `X:1002~reserved`, Only: "plain"},
	{Rule: "5.2 RSV1 on binary", Sent: `rsv1+B:hi`, Want: `X:1002~reserved`, Only: "plain"},
	{Rule: "5.2 RSV1 on a first fragment", Sent: `rsv1+t:hi C:`, Want: `X:1002~reserved`, Only: "plain"},
	{Rule: "5.2 RSV1 on an empty message", Sent: `rsv1+T:`, Want: `X:1002~reserved`, Only: "plain"},
	{Rule: "5.2 RSV1 on a close", Sent: `rsv1+X:1000`, Want: `X:1002~reserved`},
	{Rule: "5.2 RSV1 on a pong", Sent: `rsv1+O:hi`, Want: `X:1002~reserved`},
	{Rule: "5.2 RSV2 on text", Sent: `rsv2+T:hi`, Want: `X:1002~reserved`},
	{Rule: "5.2 RSV2 on binary", Sent: `rsv2+B:hi`, Want: `X:1002~reserved`},
	{Rule: "5.2 RSV2 on a continuation", Sent: `t:a rsv2+C:b`, Want: `X:1002~reserved`},
	{Rule: "5.2 RSV2 on a ping", Sent: `rsv2+P:hi`, Want: `X:1002~reserved`},
	{Rule: "5.2 RSV2 on a pong", Sent: `rsv2+O:hi`, Want: `X:1002~reserved`},
	{Rule: "5.2 RSV2 on a close", Sent: `rsv2+X:1000`, Want: `X:1002~reserved`},
	{Rule: "5.2 RSV3 on text", Sent: `rsv3+T:hi`, Want: `X:1002~reserved`},
	{Rule: "5.2 RSV3 on binary", Sent: `rsv3+B:hi`, Want: `X:1002~reserved`},
	{Rule: "5.2 RSV3 on a continuation", Sent: `t:a rsv3+C:b`, Want: `X:1002~reserved`},
	{Rule: "5.2 RSV3 on a ping", Sent: `rsv3+P:hi`, Want: `X:1002~reserved`},
	{Rule: "5.2 RSV3 on a pong", Sent: `rsv3+O:hi`, Want: `X:1002~reserved`},
	{Rule: "5.2 RSV3 on a close", Sent: `rsv3+X:1000`, Want: `X:1002~reserved`},
	{Rule: "5.2 RSV1 and RSV2", Sent: `rsv1+rsv2+T:hi`, Want: `X:1002~reserved`},
	{Rule: "5.2 RSV1 and RSV3", Sent: `rsv1+rsv3+T:hi`, Want: `X:1002~reserved`},
	{Rule: "5.2 RSV2 and RSV3", Sent: `rsv2+rsv3+B:hi`, Want: `X:1002~reserved`},
	{Rule: "5.2 all reserved bits", Sent: `rsv1+rsv2+rsv3+T:hi`, Want: `X:1002~reserved`},
	{Rule: "5.2 reserved bit after good messages", Sent: `T:one B:two P:three rsv3+T:four`, Want: `T:one B:two O:three X:1002~reserved`},
	{Rule: "5.2 reserved bit in one byte", Sent: `#a1`, Want: `X:1002~reserved`},
	{Rule: "5.2 reserved bit between fragments", Sent: `t:one rsv2+P:two C:three`, Want: `X:1002~reserved`},
	{Rule: "5.2 message after a reserved bit", Sent: `rsv2+T:one T:two`, Want: `X:1002~reserved`},
}, reservedOpcodes(), lengths)

// reservedOpcodes are the frames with one, with and without the fin bit, and
// between fragments.
func reservedOpcodes() (exchanges []Exchange) {
	for _, op := range []string{"3", "4", "5", "6", "7", "b", "c", "d", "e", "f"} {
		exchanges = append(exchanges,
			Exchange{Rule: "5.2 opcode " + op, Sent: `T:ok #8` + op + `8037fa213d`, Want: `T:ok X:1002~opcode`},
			Exchange{Rule: "5.2 opcode " + op + " with payload, without fin", Sent: `#0` + op + `8137fa213d00`, Want: `X:1002~opcode`},
			Exchange{Rule: "5.2 opcode " + op + " in one byte, between fragments", Sent: `t:a #8` + op, Want: `X:1002~opcode`},
		)
	}
	return exchanges
}

// lengths are those around which headers, buffers and frames change. Autobahn has
// these in categories 1 and 9.
var lengths = []Exchange{
	{Rule: "5.2 text of 0", Sent: `T:`, Want: `T:`},
	{Rule: "5.2 text of 1", Sent: `T:x`, Want: `T:x`},
	{Rule: "5.2 text of 125", Sent: `T:%125`, Want: `T:%125`},
	{Rule: "5.2 text of 126", Sent: `T:%126`, Want: `T:%126`},
	{Rule: "5.2 text of 127", Sent: `T:%127`, Want: `T:%127`},
	{Rule: "5.2 text of 128", Sent: `T:%128`, Want: `T:%128`},
	{Rule: "5.2 text of 4095", Sent: `T:%4095`, Want: `T:%4095`},
	{Rule: "5.2 text of 4096", Sent: `T:%4096`, Want: `T:%4096`},
	{Rule: "5.2 text of 4097", Sent: `T:%4097`, Want: `T:%4097`},
	{Rule: "5.2 text of 65535", Sent: `T:%65535`, Want: `T:%65535`},
	{Rule: "5.2 text of 65536", Sent: `T:%65536`, Want: `T:%65536`},
	{Rule: "5.2 text of 65537", Sent: `T:%65537`, Want: `T:%65537`},
	{Rule: "5.2 text of 262144", Sent: `T:%262144`, Want: `T:%262144`},
	{Rule: "5.2 binary of 0", Sent: `B:`, Want: `B:`},
	{Rule: "5.2 binary of 1", Sent: `B:\x00`, Want: `B:\x00`},
	{Rule: "5.2 binary of 125", Sent: `B:\xfe*125`, Want: `B:\xfe*125`},
	{Rule: "5.2 binary of 126", Sent: `B:\xfe*126`, Want: `B:\xfe*126`},
	{Rule: "5.2 binary of 127", Sent: `B:\xfe*127`, Want: `B:\xfe*127`},
	{Rule: "5.2 binary of 128", Sent: `B:\xfe*128`, Want: `B:\xfe*128`},
	{Rule: "5.2 binary of 65535", Sent: `B:%65535`, Want: `B:%65535`},
	{Rule: "5.2 binary of 65536", Sent: `B:%65536`, Want: `B:%65536`},
	{Rule: "5.2 binary of 65537", Sent: `B:%65537`, Want: `B:%65537`},
	{Rule: "5.2 binary of 1 MiB", Sent: `B:%1048576`, Want: `B:%1048576`},
	{Rule: "5.2 many messages at once", Sent: `T:1 B:2 T:3 B:%300 T: B: T:%126 B:%70000 T:9`, Want: `T:1 B:2 T:3 B:%300 T: B: T:%126 B:%70000 T:9`},

	{Rule: "5.2 16-bit length of 0", Sent: `wide+T:`, Want: `X:1002~shortest`},
	{Rule: "5.2 16-bit length of 1", Sent: `wide+B:x`, Want: `X:1002~shortest`},
	{Rule: "5.2 16-bit length of 125", Sent: `wide+B:%125`, Want: `X:1002~shortest`},
	{Rule: "5.2 16-bit length of 126", Sent: `wide+B:%126`, Want: `B:%126`},
	{Rule: "5.2 16-bit length of 127", Sent: `wide+B:%127`, Want: `B:%127`},
	{Rule: "5.2 64-bit length of 0", Sent: `huge+T:`, Want: `X:1002~shortest`},
	{Rule: "5.2 64-bit length of 125", Sent: `huge+B:%125`, Want: `X:1002~shortest`},
	{Rule: "5.2 64-bit length of 126", Sent: `huge+B:%126`, Want: `X:1002~shortest`},
	{Rule: "5.2 64-bit length of 65535", Sent: `huge+B:%65535@0`, Want: `X:1002~shortest`},
	{Rule: "5.2 64-bit length of 65536", Sent: `huge+B:%65536`, Want: `B:%65536`},
	{Rule: "5.2 16-bit length of 125 on a continuation", Sent: `b:a wide+C:%125`, Want: `X:1002~shortest`},
	{Rule: "5.2 64-bit length with the highest bit", Sent: `#82ff8000000000000000`, Want: `X:1002~63`},
	{Rule: "5.2 64-bit length of ones", Sent: `#82ffffffffffffffffff`, Want: `X:1002~63`},
	{Rule: "5.2 64-bit length with the highest bit and 5", Sent: `#82ff800000000000000537fa213d`, Want: `X:1002~63`},
	{Rule: "5.2 64-bit length with the highest bit on text", Sent: `#81ff8000000000010000`, Want: `X:1002~63`},
	{Rule: "5.2 largest length", Sent: `#82ff7fffffffffffffff37fa213d`, Want: `X:1009~more`},
	{Rule: "5.2 largest length on a continuation", Sent: `b:a #80ff7fffffffffffffff37fa213d`, Want: `X:1009~more`},
	{Rule: "7.4.1 a message as long as max_message_size", Sent: `b:x*1000000 C:x*48576`, Want: `B:x*1048576`},
	{Rule: "7.4.1 a frame longer than max_message_size", Sent: `B:%1048577@0`, Want: `X:1009~more`},
	{Rule: "7.4.1 fragments longer than max_message_size", Sent: `b:%65536 c:%65536 C:%1000000@0`, Want: `X:1009~more`},
}
