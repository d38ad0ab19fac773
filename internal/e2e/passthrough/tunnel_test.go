package passthrough

import (
	"bytes"
	"io"
	mathrand "math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
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
			b.Write(wstest.ClientFrame(first, payload))
		} else {
			b.Write(wstest.ServerFrame(first, string(payload)))
		}
	}
	return b.Bytes()
}

// Whatever the application and the client send arrives as it is.
func TestTunnelBytes(t *testing.T) {
	wstest.OnEveryTunnel(t, "", func(t *testing.T, s *wstest.Server, u *wstest.Upstream, protocol string) {
		rng := mathrand.New(mathrand.NewPCG(1, 2))
		client, app := u.Tunnel(s, protocol)
		for _, d := range []struct {
			from, to *wstest.Peer
			masked   bool
		}{{client, app, true}, {app, client, false}} {
			sent := randomFrames(rng, d.masked, 4<<20)
			cuts := mathrand.New(mathrand.NewPCG(3, 4))
			go func() {
				for rest := sent; len(rest) > 0; {
					n := min(len(rest), 1+cuts.IntN([]int{1, 2, 20, 2000, 100_000}[cuts.IntN(5)]))
					if _, err := d.from.Conn.Write(rest[:n]); err != nil {
						return
					}
					rest = rest[n:]
				}
			}()
			got := make([]byte, len(sent))
			d.to.SetReadDeadline(time.Now().Add(wstest.Timeout))
			if n, err := io.ReadFull(d.to.Reader, got); err != nil {
				t.Fatalf("from %s: after %d bytes: %v", d.from.Name, n, err)
			}
			if i := firstDifference(got, sent); i >= 0 {
				t.Fatalf("from %s: byte %d of %d is different", d.from.Name, i, len(sent))
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
	wstest.OnEveryTunnel(t, "", func(t *testing.T, s *wstest.Server, u *wstest.Upstream, protocol string) {
		client, app := u.Tunnel(s, protocol)
		client.Send(ws.OpText, "hello")
		app.ExpectMasked(ws.OpText, "hello")
		app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpText), "hello yourself"))
		client.Expect(ws.OpText, "hello yourself")
		client.SendClose(3001, "bye")
		app.ExpectMasked(ws.OpClose, string(ws.ClosePayload(3001, "bye")))
		app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpClose), string(ws.ClosePayload(3001, "bye"))))
		client.ExpectClose(3001, "bye")
		app.Conn.Close()
		client.ExpectEnd()
		client.Conn.Close()

		client, app = u.Tunnel(s, protocol)
		app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpClose), string(ws.ClosePayload(4000, "go"))))
		client.ExpectClose(4000, "go")
		client.SendClose(4000, "go")
		app.ExpectMasked(ws.OpClose, string(ws.ClosePayload(4000, "go")))
		app.Conn.Close()
		client.ExpectEnd()
	})
}

// A Ping of ours goes out between two frames, its Pong goes no further, and all
// other pings and pongs pass.
func TestTunnelPing(t *testing.T) {
	wstest.OnEveryTunnel(t, "keepalive 100ms 10s", func(t *testing.T, s *wstest.Server, u *wstest.Upstream, protocol string) {
		client, app := u.Tunnel(s, protocol)
		// In the middle of a frame there is none.
		frame := wstest.ServerFrame(ws.FinBit|byte(ws.OpText), strings.Repeat("x", 1000))
		app.WriteRaw(frame[:500])
		if _, err := io.ReadFull(client.Reader, make([]byte, 500)); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(400*time.Millisecond, func() { app.Conn.Write(frame[500:]) })
		if rest, err := client.Reader.Peek(len(frame) - 500); err != nil || !bytes.Equal(rest, frame[500:]) {
			t.Fatalf("something came in the middle of a frame: %q, %v", rest, err)
		}
		client.Reader.Discard(len(frame) - 500)
		client.ExpectPing()
		// Between the fragments of a message there is.
		app.WriteRaw(wstest.ServerFrame(byte(ws.OpText), "frag"))
		for f := client.ReadFrame(); f.Opcode() != ws.OpText; f = client.ReadFrame() {
		}
		ping := client.ExpectPing()
		pong := wstest.ClientFrame(ws.FinBit|byte(ws.OpPong), []byte(ping))
		client.WriteRaw(pong[:7])
		client.WriteRaw(pong[7:])
		app.WriteRaw(wstest.ServerFrame(ws.FinBit, "ments"))
		client.Send(ws.OpPong, "unsolicited")
		client.Send(ws.OpPong, "8 bytes!")
		client.Send(ws.OpPing, "mine")
		app.ExpectMasked(ws.OpPong, "unsolicited")
		app.ExpectMasked(ws.OpPong, "8 bytes!")
		app.ExpectMasked(ws.OpPing, "mine")
		app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpPing), "the app's"))
		for {
			f := client.ReadFrame()
			if f.Opcode() == ws.OpPing && string(f.Payload) == "the app's" {
				break
			}
		}
	})
}

// The second number is for the application's messages only.
func TestTunnelMaxMessageSizeFromUpstream(t *testing.T) {
	for options, limit := range map[string]int{"max_message_size 100 1000": 1000, "max_message_size 100 off": 0} {
		wstest.OnEveryTunnel(t, options, func(t *testing.T, s *wstest.Server, u *wstest.Upstream, protocol string) {
			client, app := u.Tunnel(s, protocol)
			app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpText), strings.Repeat("x", 1000)))
			client.Expect(ws.OpText, strings.Repeat("x", 1000))
			if limit == 0 {
				app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpText), strings.Repeat("x", 10_000)))
				client.Expect(ws.OpText, strings.Repeat("x", 10_000))
				client.Send(ws.OpText, strings.Repeat("x", 101))
			} else {
				app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpText), strings.Repeat("x", 1001)))
			}
			client.ExpectClose(1009, "max_message_size")
			app.ExpectMasked(ws.OpClose, string(ws.ClosePayload(1009, "message over max_message_size")))
			app.Conn.Close()
			client.AnswerClose(1009)
			client.ExpectEnd()
		})
	}
}

func TestTunnelMaxMessageSize(t *testing.T) {
	wstest.OnEveryTunnel(t, "max_message_size 1000", func(t *testing.T, s *wstest.Server, u *wstest.Upstream, protocol string) {
		client, app := u.Tunnel(s, protocol)
		client.Send(ws.OpText, "before")
		client.WriteRaw(wstest.ClientFrame(ws.FinBit|byte(ws.OpText), make([]byte, 1001)))
		app.ExpectMasked(ws.OpText, "before")
		app.ExpectMasked(ws.OpClose, string(ws.ClosePayload(1009, "message over max_message_size")))
		client.ExpectClose(1009, "max_message_size")
		app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpClose), string(ws.ClosePayload(1009, ""))))
		app.Conn.Close()
		client.AnswerClose(1009)
		client.ExpectEnd()

		client, app = u.Tunnel(s, protocol)
		app.WriteRaw(wstest.ServerFrame(byte(ws.OpText), strings.Repeat("x", 600)), wstest.ServerFrame(ws.FinBit, strings.Repeat("y", 600)))
		if f := client.ReadFrame(); len(f.Payload) != 600 {
			t.Fatalf("got %d bytes", len(f.Payload))
		}
		client.ExpectClose(1009, "max_message_size")
		app.ExpectMasked(ws.OpClose, string(ws.ClosePayload(1009, "message over max_message_size")))
		app.Conn.Close()
		client.AnswerClose(1009)
		client.ExpectEnd()
	})
}

// What isn't frames passes all the same, and nothing is put in between.
func TestTunnelBrokenFrames(t *testing.T) {
	wstest.OnEveryTunnel(t, "keepalive 50ms 100ms", func(t *testing.T, s *wstest.Server, u *wstest.Upstream, protocol string) {
		for name, broken := range map[string][]byte{
			"reserved opcode": {0x83, 0x80, 1, 2, 3, 4},
			"long control":    {0x89, 0xfe, 0, 200, 1, 2, 3, 4},
			"no mask":         {0x81, 0x03, 'a', 'b', 'c'},
			"long length":     {0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0},
		} {
			client, app := u.Tunnel(s, protocol)
			sent := append(bytes.Clone(broken), make([]byte, 100)...)
			client.WriteRaw(sent)
			got := make([]byte, len(sent))
			if _, err := io.ReadFull(app.Reader, got); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("%s: got %x, %v", name, got, err)
			}
			app.Conn.Close()
			client.Conn.Close()
		}
	})
}

func TestTunnelManySmallFrames(t *testing.T) {
	wstest.OnEveryTunnel(t, "", func(t *testing.T, s *wstest.Server, u *wstest.Upstream, protocol string) {
		client, app := u.Tunnel(s, protocol)
		for _, d := range []struct {
			from, to *wstest.Peer
			frame    func(i int) []byte
		}{
			{client, app, func(i int) []byte { return wstest.ClientFrame(ws.FinBit|byte(ws.OpText), []byte(strconv.Itoa(i))) }},
			{app, client, func(i int) []byte { return wstest.ServerFrame(ws.FinBit|byte(ws.OpText), strconv.Itoa(i)) }},
		} {
			var sent []byte
			for i := range 100_000 {
				sent = append(sent, d.frame(i)...)
			}
			go d.from.Conn.Write(sent)
			got := make([]byte, len(sent))
			d.to.SetReadDeadline(time.Now().Add(wstest.Timeout))
			if n, err := io.ReadFull(d.to.Reader, got); err != nil || !bytes.Equal(got, sent) {
				t.Fatalf("from %s: %d of %d bytes, not all the same: %v", d.from.Name, n, len(sent), err)
			}
		}
	})
}

func TestTunnelHugeFrame(t *testing.T) {
	const size = 256 << 20
	u := wstest.ListenUpstream(t)
	s := wstest.Start(t, "websocket passthrough {\nallowed_origins *\n}\nreverse_proxy "+u.Addr().String())
	client, app := u.Tunnel(s, "http1")
	block := []byte(wstest.Letters(1 << 20))
	for _, d := range []struct {
		from, to *wstest.Peer
		mask     byte
	}{{client, app, ws.MaskBit}, {app, client, 0}} {
		head := ws.AppendHeader(nil, ws.FinBit|byte(ws.OpBinary), size)
		if d.mask != 0 {
			head[1] |= ws.MaskBit
			head = append(head, 0, 0, 0, 0)
		}
		go func() {
			d.from.Conn.Write(head)
			for range size / len(block) {
				d.from.Conn.Write(block)
			}
		}()
		d.to.SetReadDeadline(time.Now().Add(wstest.Timeout))
		got := make([]byte, len(block))
		if _, err := io.ReadFull(d.to.Reader, got[:len(head)]); err != nil || !bytes.Equal(got[:len(head)], head) {
			t.Fatalf("from %s: header %x, %v", d.from.Name, got[:len(head)], err)
		}
		for i := range size / len(block) {
			if _, err := io.ReadFull(d.to.Reader, got); err != nil || !bytes.Equal(got, block) {
				t.Fatalf("from %s: other bytes in MiB %d: %v", d.from.Name, i, err)
			}
		}
	}
}

// Of a message over the limit nothing passes, however it is cut.
func TestTunnelMaxMessageSizeInPieces(t *testing.T) {
	t.Parallel()
	var apps []*wstest.Peer
	wstest.OpenTunnels(t, "max_message_size 1000", func(s *wstest.Server, u *wstest.Upstream, protocol string) {
		client, app := u.Tunnel(s, protocol)
		apps = append(apps, app)
		large := wstest.ClientFrame(ws.FinBit|byte(ws.OpBinary), make([]byte, 200_000))
		client.WriteRaw(wstest.ClientFrame(ws.FinBit|byte(ws.OpText), []byte("before")), large[:20])
		app.ExpectMasked(ws.OpText, "before")
		go client.Conn.Write(large[20:])
		app.ExpectMasked(ws.OpClose, string(ws.ClosePayload(1009, "message over max_message_size")))
		client.ExpectClose(1009, "max_message_size")
		app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpClose), string(ws.ClosePayload(1009, ""))))
	})
	for _, app := range apps {
		app.SetReadDeadline(time.Now().Add(wstest.Timeout))
		if rest, _ := io.ReadAll(app.Reader); len(rest) > 0 {
			t.Errorf("%d more bytes passed", len(rest))
		}
	}
}
