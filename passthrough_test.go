package caddywebsocket

import (
	"bytes"
	"io"
	mathrand "math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// randomFrames makes frames of all sorts and sizes.
func randomFrames(rng *mathrand.Rand, masked bool, total int) []byte {
	var b bytes.Buffer
	for b.Len() < total {
		size := []int{0, 1, 7, 125, 126, 127, 4000, 65535, 65536, 70000}[rng.IntN(10)]
		first := []byte{ws.FinBit | 1, ws.FinBit | 2, 1, 0, ws.FinBit, ws.FinBit | ws.RSV1Bit | 2, ws.FinBit | 9, ws.FinBit | 10}[rng.IntN(8)]
		if ws.Opcode(first & 0xf).IsControl() {
			size = rng.IntN(ws.MaxControlPayload + 1)
		}
		payload := make([]byte, size)
		for i := range payload {
			payload[i] = byte(rng.Uint32())
		}
		if masked {
			b.Write(clientFrame(first, payload))
		} else {
			b.Write(serverFrame(first, string(payload)))
		}
	}
	return b.Bytes()
}

// Whatever the application and the client send arrives as it is.
func TestTunnelBytes(t *testing.T) {
	onEveryTunnel(t, "", func(t *testing.T, s *server, u *upstream, protocol string) {
		rng := mathrand.New(mathrand.NewPCG(1, 2))
		client, app := u.tunnel(s, protocol)
		for _, d := range []struct {
			from, to *peer
			masked   bool
		}{{client, app, true}, {app, client, false}} {
			sent := randomFrames(rng, d.masked, 4<<20)
			cuts := mathrand.New(mathrand.NewPCG(3, 4))
			go func() {
				for rest := sent; len(rest) > 0; {
					n := min(len(rest), 1+cuts.IntN([]int{1, 2, 20, 2000, 100_000}[cuts.IntN(5)]))
					if _, err := d.from.rw.Write(rest[:n]); err != nil {
						return
					}
					rest = rest[n:]
				}
			}()
			got := make([]byte, len(sent))
			d.to.deadline(time.Now().Add(patience))
			if n, err := io.ReadFull(d.to.br, got); err != nil {
				t.Fatalf("from %s: after %d bytes: %v", d.from.name, n, err)
			}
			if i := firstDifference(got, sent); i >= 0 {
				t.Fatalf("from %s: byte %d of %d is different", d.from.name, i, len(sent))
			}
		}
	})
}

func firstDifference(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

func TestTunnelClose(t *testing.T) {
	onEveryTunnel(t, "", func(t *testing.T, s *server, u *upstream, protocol string) {
		client, app := u.tunnel(s, protocol)
		client.send(ws.OpText, "hello")
		app.expectMasked(ws.OpText, "hello")
		app.write(serverFrame(ws.FinBit|byte(ws.OpText), "hello yourself"))
		client.expect(ws.OpText, "hello yourself")
		client.sendClose(3001, "bye")
		app.expectMasked(ws.OpClose, string(ws.ClosePayload(3001, "bye")))
		app.write(serverFrame(ws.FinBit|byte(ws.OpClose), string(ws.ClosePayload(3001, "bye"))))
		client.expectClose(3001, "bye")
		app.rw.Close()
		client.expectEnd()
		client.rw.Close()

		client, app = u.tunnel(s, protocol)
		app.write(serverFrame(ws.FinBit|byte(ws.OpClose), string(ws.ClosePayload(4000, "go"))))
		client.expectClose(4000, "go")
		client.sendClose(4000, "go")
		app.expectMasked(ws.OpClose, string(ws.ClosePayload(4000, "go")))
		app.rw.Close()
		client.expectEnd()
	})
}

// A Ping of ours goes out between two frames, its Pong goes no further, and all
// other pings and pongs pass.
func TestTunnelPing(t *testing.T) {
	onEveryTunnel(t, "keepalive 100ms 10s", func(t *testing.T, s *server, u *upstream, protocol string) {
		client, app := u.tunnel(s, protocol)
		// In the middle of a frame there is none.
		frame := serverFrame(ws.FinBit|byte(ws.OpText), strings.Repeat("x", 1000))
		app.write(frame[:500])
		if _, err := io.ReadFull(client.br, make([]byte, 500)); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(400*time.Millisecond, func() { app.rw.Write(frame[500:]) })
		if rest, err := client.br.Peek(len(frame) - 500); err != nil || !bytes.Equal(rest, frame[500:]) {
			t.Fatalf("something came in the middle of a frame: %q, %v", rest, err)
		}
		client.br.Discard(len(frame) - 500)
		client.expectPing()
		// Between the fragments of a message there is.
		app.write(serverFrame(byte(ws.OpText), "frag"))
		for f := client.read(); f.op() != ws.OpText; f = client.read() {
		}
		ping := client.expectPing()
		pong := clientFrame(ws.FinBit|byte(ws.OpPong), []byte(ping))
		client.write(pong[:7])
		client.write(pong[7:])
		app.write(serverFrame(ws.FinBit, "ments"))
		client.send(ws.OpPong, "unsolicited")
		client.send(ws.OpPong, "8 bytes!")
		client.send(ws.OpPing, "mine")
		app.expectMasked(ws.OpPong, "unsolicited")
		app.expectMasked(ws.OpPong, "8 bytes!")
		app.expectMasked(ws.OpPing, "mine")
		app.write(serverFrame(ws.FinBit|byte(ws.OpPing), "the app's"))
		for {
			f := client.read()
			if f.op() == ws.OpPing && string(f.payload) == "the app's" {
				break
			}
		}
	})
}

func TestTunnelMaxMessageSize(t *testing.T) {
	onEveryTunnel(t, "max_message_size 1000", func(t *testing.T, s *server, u *upstream, protocol string) {
		client, app := u.tunnel(s, protocol)
		client.send(ws.OpText, "before")
		client.write(clientFrame(ws.FinBit|byte(ws.OpText), make([]byte, 1001)))
		app.expectMasked(ws.OpText, "before")
		app.expectMasked(ws.OpClose, string(ws.ClosePayload(1009, "message over max_message_size")))
		client.expectClose(1009, "max_message_size")
		app.write(serverFrame(ws.FinBit|byte(ws.OpClose), string(ws.ClosePayload(1009, ""))))
		app.rw.Close()
		client.answerClose(1009)
		client.expectEnd()

		client, app = u.tunnel(s, protocol)
		app.write(serverFrame(byte(ws.OpText), strings.Repeat("x", 600)), serverFrame(ws.FinBit, strings.Repeat("y", 600)))
		if f := client.read(); len(f.payload) != 600 {
			t.Fatalf("got %d bytes", len(f.payload))
		}
		client.expectClose(1009, "max_message_size")
		app.expectMasked(ws.OpClose, string(ws.ClosePayload(1009, "message over max_message_size")))
		app.rw.Close()
		client.answerClose(1009)
		client.expectEnd()
	})
}

// What isn't frames passes all the same, and nothing is put in between.
func TestTunnelBrokenFrames(t *testing.T) {
	onEveryTunnel(t, "keepalive 50ms 100ms", func(t *testing.T, s *server, u *upstream, protocol string) {
		for name, broken := range map[string][]byte{
			"reserved opcode": {0x83, 0x80, 1, 2, 3, 4},
			"long control":    {0x89, 0xfe, 0, 200, 1, 2, 3, 4},
			"no mask":         {0x81, 0x03, 'a', 'b', 'c'},
			"long length":     {0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0},
		} {
			client, app := u.tunnel(s, protocol)
			sent := append(bytes.Clone(broken), make([]byte, 100)...)
			client.write(sent)
			got := make([]byte, len(sent))
			if _, err := io.ReadFull(app.br, got); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("%s: got %x, %v", name, got, err)
			}
			app.rw.Close()
			client.rw.Close()
		}
	})
}

func TestTunnelManySmallFrames(t *testing.T) {
	onEveryTunnel(t, "", func(t *testing.T, s *server, u *upstream, protocol string) {
		client, app := u.tunnel(s, protocol)
		for _, d := range []struct {
			from, to *peer
			frame    func(i int) []byte
		}{
			{client, app, func(i int) []byte { return clientFrame(ws.FinBit|byte(ws.OpText), []byte(strconv.Itoa(i))) }},
			{app, client, func(i int) []byte { return serverFrame(ws.FinBit|byte(ws.OpText), strconv.Itoa(i)) }},
		} {
			var sent []byte
			for i := range 100_000 {
				sent = append(sent, d.frame(i)...)
			}
			go d.from.rw.Write(sent)
			got := make([]byte, len(sent))
			d.to.deadline(time.Now().Add(patience))
			if n, err := io.ReadFull(d.to.br, got); err != nil || !bytes.Equal(got, sent) {
				t.Fatalf("from %s: %d of %d bytes, not all the same: %v", d.from.name, n, len(sent), err)
			}
		}
	})
}

func TestTunnelHugeFrame(t *testing.T) {
	const size = 256 << 20
	u := listenUpstream(t)
	s := start(t, "websocket passthrough {\nallowed_origins *\n}\nreverse_proxy "+u.Addr().String())
	client, app := u.tunnel(s, "http1")
	block := []byte(letters(1 << 20))
	for _, d := range []struct {
		from, to *peer
		mask     byte
	}{{client, app, ws.MaskBit}, {app, client, 0}} {
		head := ws.AppendHeader(nil, ws.FinBit|byte(ws.OpBinary), size)
		if d.mask != 0 {
			head[1] |= ws.MaskBit
			head = append(head, 0, 0, 0, 0)
		}
		go func() {
			d.from.rw.Write(head)
			for range size / len(block) {
				d.from.rw.Write(block)
			}
		}()
		d.to.deadline(time.Now().Add(patience))
		got := make([]byte, len(block))
		if _, err := io.ReadFull(d.to.br, got[:len(head)]); err != nil || !bytes.Equal(got[:len(head)], head) {
			t.Fatalf("from %s: header %x, %v", d.from.name, got[:len(head)], err)
		}
		for i := range size / len(block) {
			if _, err := io.ReadFull(d.to.br, got); err != nil || !bytes.Equal(got, block) {
				t.Fatalf("from %s: other bytes in MiB %d: %v", d.from.name, i, err)
			}
		}
	}
}

// Of a message over the limit nothing passes, however it is cut.
func TestTunnelMaxMessageSizeInPieces(t *testing.T) {
	onEveryTunnel(t, "max_message_size 1000", func(t *testing.T, s *server, u *upstream, protocol string) {
		client, app := u.tunnel(s, protocol)
		large := clientFrame(ws.FinBit|byte(ws.OpBinary), make([]byte, 200_000))
		client.write(clientFrame(ws.FinBit|byte(ws.OpText), []byte("before")), large[:20])
		app.expectMasked(ws.OpText, "before")
		go client.rw.Write(large[20:])
		app.expectMasked(ws.OpClose, string(ws.ClosePayload(1009, "message over max_message_size")))
		client.expectClose(1009, "max_message_size")
		app.write(serverFrame(ws.FinBit|byte(ws.OpClose), string(ws.ClosePayload(1009, ""))))
		app.deadline(time.Now().Add(patience))
		if rest, _ := io.ReadAll(app.br); len(rest) > 0 {
			t.Errorf("%d more bytes passed", len(rest))
		}
	})
}
