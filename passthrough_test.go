package caddywebsocket

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/gorilla/websocket"
)

// An upstream is an application that a test speaks for, frame by frame.
type upstream struct {
	net.Listener
	t *testing.T
}

func listenUpstream(t *testing.T) *upstream {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return &upstream{ln, t}
}

// accept accepts the next handshake and gives the application's end of it.
func (u *upstream) accept() *peer {
	u.t.Helper()
	_, app := u.acceptWith("")
	return app
}

// acceptWith is accept with more fields in the answer, and the request.
func (u *upstream) acceptWith(fields string) (*http.Request, *peer) {
	u.t.Helper()
	conn, err := u.Accept()
	if err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(func() { conn.Close() })
	br := bufio.NewReader(conn)
	req, err := http.ReadRequest(br)
	if err != nil {
		u.t.Fatal(err)
	}
	p := &peer{t: u.t, name: "upstream", rw: conn, br: br, deadline: conn.SetReadDeadline}
	p.write([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" + fields + "\r\n"))
	return req, p
}

// tunnel opens a socket over the protocol and gives both its ends.
func (u *upstream) tunnel(s *server, protocol string, header ...string) (client, app *peer) {
	u.t.Helper()
	accepted := make(chan *peer)
	go func() { accepted <- u.accept() }()
	client = s.dial(u.t, protocol, "/", header...)
	return client, <-accepted
}

// answerClose answers a Close frame. On HTTP/2 and HTTP/3 the stream may have
// ended with that.
func (p *peer) answerClose(code int) {
	p.rw.Write(clientFrame(finBit|byte(opClose), closePayload(code, "")))
}

// serverFrame makes an unmasked frame.
func serverFrame(first byte, payload string) []byte {
	return append(appendFrameHeader(nil, first, len(payload)), payload...)
}

// readMasked receives a masked frame, as it came, and its payload in the clear.
func (p *peer) readMasked() (first byte, payload string) {
	p.t.Helper()
	p.deadline(time.Now().Add(patience))
	var raw []byte
	for {
		if len(raw) > 0 {
			h, n, err := parseFrameHeader(raw)
			if err != nil || len(raw) > 1 && !h.masked {
				p.t.Fatalf("%s: %x is no masked frame: %v", p.name, raw, err)
			}
			if n > 0 {
				body := make([]byte, h.length)
				if _, err := io.ReadFull(p.br, body); err != nil {
					p.t.Fatal(err)
				}
				unmask(body, h.mask, 0)
				return raw[0], string(body)
			}
		}
		b, err := p.br.ReadByte()
		if err != nil {
			p.t.Fatalf("%s: reading: %v", p.name, err)
		}
		raw = append(raw, b)
	}
}

// expectMasked receives an unfragmented masked frame and compares it.
func (p *peer) expectMasked(op opcode, payload string) {
	p.t.Helper()
	if first, got := p.readMasked(); first != finBit|byte(op) || got != payload {
		p.t.Fatalf("%s: got frame %#x %.60q, want opcode %d %.60q", p.name, first, got, op, payload)
	}
}

// onEveryTunnel runs f on all protocols, over one server that supervises what
// reverse_proxy serves.
func onEveryTunnel(t *testing.T, options string, f func(t *testing.T, s *server, u *upstream, protocol string)) {
	t.Helper()
	u := listenUpstream(t)
	s := start(t, fmt.Sprintf("websocket passthrough {\nallowed_origins *\n%s\n}\nrespond /no-socket 204\nreverse_proxy %s", options, u.Addr()))
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			u := &upstream{u.Listener, t}
			f(t, s, u, protocol)
		})
	}
}

// randomFrames makes frames of all sorts and sizes.
func randomFrames(rng *mathrand.Rand, masked bool, total int) []byte {
	var b bytes.Buffer
	for b.Len() < total {
		size := []int{0, 1, 7, 125, 126, 127, 4000, 65535, 65536, 70000}[rng.IntN(10)]
		first := []byte{finBit | 1, finBit | 2, 1, 0, finBit, finBit | rsv1Bit | 2, finBit | 9, finBit | 10}[rng.IntN(8)]
		if opcode(first & 0xf).isControl() {
			size = rng.IntN(maxControlPayload + 1)
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
		client.send(opText, "hello")
		app.expectMasked(opText, "hello")
		app.write(serverFrame(finBit|byte(opText), "hello yourself"))
		client.expect(opText, "hello yourself")
		client.sendClose(3001, "bye")
		app.expectMasked(opClose, string(closePayload(3001, "bye")))
		app.write(serverFrame(finBit|byte(opClose), string(closePayload(3001, "bye"))))
		client.expectClose(3001, "bye")
		app.rw.Close()
		client.expectEnd()
		client.rw.Close()

		client, app = u.tunnel(s, protocol)
		app.write(serverFrame(finBit|byte(opClose), string(closePayload(4000, "go"))))
		client.expectClose(4000, "go")
		client.sendClose(4000, "go")
		app.expectMasked(opClose, string(closePayload(4000, "go")))
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
		frame := serverFrame(finBit|byte(opText), strings.Repeat("x", 1000))
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
		app.write(serverFrame(byte(opText), "frag"))
		for f := client.read(); f.op() != opText; f = client.read() {
		}
		ping := client.expectPing()
		pong := clientFrame(finBit|byte(opPong), []byte(ping))
		client.write(pong[:7])
		client.write(pong[7:])
		app.write(serverFrame(finBit, "ments"))
		client.send(opPong, "unsolicited")
		client.send(opPong, "8 bytes!")
		client.send(opPing, "mine")
		app.expectMasked(opPong, "unsolicited")
		app.expectMasked(opPong, "8 bytes!")
		app.expectMasked(opPing, "mine")
		app.write(serverFrame(finBit|byte(opPing), "the app's"))
		for {
			f := client.read()
			if f.op() == opPing && string(f.payload) == "the app's" {
				break
			}
		}
	})
}

func TestTunnelDeadClient(t *testing.T) {
	onEveryTunnel(t, "keepalive 50ms 200ms", func(t *testing.T, s *server, u *upstream, protocol string) {
		client, app := u.tunnel(s, protocol)
		app.expectMasked(opClose, string(closePayload(1001, "keepalive timeout")))
		app.rw.Close()
		for {
			if f := client.read(); f.op() == opClose {
				break
			}
		}
		client.expectEnd()
	})
}

func TestTunnelUpstreamBreaks(t *testing.T) {
	onEveryTunnel(t, "", func(t *testing.T, s *server, u *upstream, protocol string) {
		client, app := u.tunnel(s, protocol)
		app.write(serverFrame(finBit|byte(opText), "last words"))
		client.expect(opText, "last words")
		app.rw.Close()
		client.expectClose(1011, "upstream connection lost")
		client.answerClose(1011)
		client.expectEnd()
	})
}

func TestTunnelMaxMessageSize(t *testing.T) {
	onEveryTunnel(t, "max_message_size 1000", func(t *testing.T, s *server, u *upstream, protocol string) {
		client, app := u.tunnel(s, protocol)
		client.send(opText, "before")
		client.write(clientFrame(finBit|byte(opText), make([]byte, 1001)))
		app.expectMasked(opText, "before")
		app.expectMasked(opClose, string(closePayload(1009, "message over max_message_size")))
		client.expectClose(1009, "max_message_size")
		app.write(serverFrame(finBit|byte(opClose), string(closePayload(1009, ""))))
		app.rw.Close()
		client.answerClose(1009)
		client.expectEnd()

		client, app = u.tunnel(s, protocol)
		app.write(serverFrame(byte(opText), strings.Repeat("x", 600)), serverFrame(finBit, strings.Repeat("y", 600)))
		if f := client.read(); len(f.payload) != 600 {
			t.Fatalf("got %d bytes", len(f.payload))
		}
		client.expectClose(1009, "max_message_size")
		app.expectMasked(opClose, string(closePayload(1009, "message over max_message_size")))
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

func TestTunnelLifetime(t *testing.T) {
	onEveryTunnel(t, "max_lifetime 200ms", func(t *testing.T, s *server, u *upstream, protocol string) {
		client, app := u.tunnel(s, protocol)
		client.expectClose(1001, "lifetime")
		app.expectMasked(opClose, string(closePayload(1001, "end of the socket's lifetime")))
		app.write(serverFrame(finBit|byte(opClose), string(closePayload(1001, ""))))
		client.answerClose(1001)
		app.rw.Close()
		client.expectEnd()
	})
}

// Other answers than an accepted handshake reach the client as they are.
func TestTunnelRefusedByUpstream(t *testing.T) {
	for _, status := range []int{200, 301, 401, 404, 426, 500} {
		upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Upstream", "yes")
			w.WriteHeader(status)
			fmt.Fprint(w, "no socket")
		}))
		defer upstream.Close()
		s := start(t, "websocket passthrough {\nallowed_origins *\n}\nreverse_proxy "+upstream.Listener.Addr().String())
		for _, protocol := range protocols {
			p := s.attempt(t, protocol, "/")
			if p.res.StatusCode != status || p.res.Header.Get("X-Upstream") != "yes" || p.body() != "no socket" {
				t.Errorf("%s: status %d, want the upstream's %d", protocol, p.res.StatusCode, status)
			}
		}
	}
}

// gorilla's server, behind reverse_proxy, doesn't notice.
func TestTunnelToGorilla(t *testing.T) {
	s := start(t, "websocket passthrough {\nallowed_origins *\n}\nreverse_proxy "+echoUpstream(t))
	conn, _, err := (&websocket.Dialer{EnableCompression: true}).Dial("ws://"+s.plain, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i := range 2000 {
		want := letters(i % 5000)
		if err := conn.WriteMessage(websocket.TextMessage, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := conn.ReadMessage(); err != nil || string(got) != want {
			t.Fatalf("message %d: got %.20q, %v", i, got, err)
		}
	}
}

// upgradingHandler is a Caddy handler that accepts sockets by itself, as gorilla
// does it: it takes the connection over and writes the answer to it.
type upgradingHandler struct{}

func (upgradingHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_upgrade", New: func() caddy.Module { return new(upgradingHandler) }}
}

func (upgradingHandler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	conn, err := new(websocket.Upgrader).Upgrade(w, r, nil)
	if err != nil {
		return nil
	}
	go func() { // as many do
		defer conn.Close()
		for {
			kind, message, err := conn.ReadMessage()
			if err != nil {
				return
			}
			conn.WriteMessage(kind, message)
		}
	}()
	return nil
}

func init() {
	caddy.RegisterModule(upgradingHandler{})
	httpcaddyfile.RegisterHandlerDirective("test_upgrade", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		return upgradingHandler{}, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("test_upgrade", httpcaddyfile.Before, "respond")
}

func TestTunnelToAnyHandler(t *testing.T) {
	s := start(t, "websocket passthrough {\nallowed_origins *\nkeepalive 100ms 10s\nmax_lifetime 2s\n}\ntest_upgrade")
	for _, protocol := range []string{"http1", "tls"} {
		p := s.dial(t, protocol, "/")
		p.echo(opText, letters(100_000))
		p.send(opPong, p.expectPing())
		p.echo(opText, "still in step")
		p.sendClose(3000, "")
		p.expectCloseAfterPings(3000, "")
		p.expectEnd()
		p.rw.Close()

		p = s.dial(t, protocol, "/")
		p.echo(opText, "hello")
		p.expectCloseAfterPings(1001, "lifetime")
		p.sendClose(1001, "")
		p.expectEnd()
	}
}

// The Close frame that reverse_proxy writes when its config is replaced never
// lands within a frame.
func TestTunnelReload(t *testing.T) {
	u := listenUpstream(t)
	site := "websocket passthrough {\nallowed_origins *\n}\nrespond /no-socket 204\nreverse_proxy " + u.Addr().String()
	s := start(t, site)
	for i, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			u := &upstream{u.Listener, t}
			idle, app := u.tunnel(s, protocol)
			defer app.rw.Close()
			// reverse_proxy knows of a connection from when it copies.
			idle.send(opText, "hello")
			app.expectMasked(opText, "hello")
			busy, app := u.tunnel(s, protocol)
			defer app.rw.Close()
			frame := serverFrame(finBit|byte(opBinary), strings.Repeat("x", 1000))
			app.write(frame[:500])
			if _, err := io.ReadFull(busy.br, make([]byte, 500)); err != nil {
				t.Fatal(err)
			}
			s.reload(t, "", fmt.Sprintf("header X-Config %d\n%s", i, site))
			idle.expectClose(1001, "")
			idle.answerClose(1001)
			idle.expectEnd()
			busy.deadline(time.Now().Add(patience))
			if rest, _ := io.ReadAll(busy.br); len(rest) > 0 {
				t.Errorf("%x came within a frame", rest)
			}
		})
	}
}

func TestTunnelSurvivesReload(t *testing.T) {
	u := listenUpstream(t)
	site := "websocket passthrough {\nallowed_origins *\n}\nrespond /no-socket 204\nreverse_proxy " + u.Addr().String() + " {\nstream_close_delay 1h\n}"
	s := start(t, site)
	for i, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			u := &upstream{u.Listener, t}
			client, app := u.tunnel(s, protocol)
			frame := serverFrame(finBit|byte(opText), "in two halves")
			app.write(frame[:5])
			s.reload(t, "", fmt.Sprintf("header X-Config %d\n%s", i, site))
			app.write(frame[5:])
			client.expect(opText, "in two halves")
			client.send(opText, "hello")
			app.expectMasked(opText, "hello")
			app.rw.Close()
			client.rw.Close()
		})
	}
}

func TestTunnelManySmallFrames(t *testing.T) {
	onEveryTunnel(t, "", func(t *testing.T, s *server, u *upstream, protocol string) {
		client, app := u.tunnel(s, protocol)
		for _, d := range []struct {
			from, to *peer
			frame    func(i int) []byte
		}{
			{client, app, func(i int) []byte { return clientFrame(finBit|byte(opText), []byte(strconv.Itoa(i))) }},
			{app, client, func(i int) []byte { return serverFrame(finBit|byte(opText), strconv.Itoa(i)) }},
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
	}{{client, app, maskBit}, {app, client, 0}} {
		head := appendFrameHeader(nil, finBit|byte(opBinary), size)
		if d.mask != 0 {
			head[1] |= maskBit
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

// A client that stops in the middle of a frame, or that sends what is no frame,
// holds up no end.
func TestTunnelEndsWithinFrame(t *testing.T) {
	onEveryTunnel(t, "max_lifetime 100ms", func(t *testing.T, s *server, u *upstream, protocol string) {
		for name, sent := range map[string][]byte{
			"half a frame": clientFrame(finBit|byte(opText), []byte("never finished"))[:10],
			"no frame":     {0x83, 0x80, 1, 2, 3, 4, 5},
		} {
			closed := len(s.logs.entries("socket closed"))
			client, app := u.tunnel(s, protocol)
			client.write(sent)
			if _, err := io.ReadFull(app.br, make([]byte, len(sent))); err != nil {
				t.Fatal(err)
			}
			client.expectClose(1001, "lifetime")
			entries := s.logs.await(t, "socket closed", closed+1)
			if by := entries[len(entries)-1]["closed_by"]; by != string(byLifetime) {
				t.Errorf("%s: closed by %v, want %v", name, by, byLifetime)
			}
			app.rw.Close()
		}
	})
}

// Of a message over the limit nothing passes, however it is cut.
func TestTunnelMaxMessageSizeInPieces(t *testing.T) {
	onEveryTunnel(t, "max_message_size 1000", func(t *testing.T, s *server, u *upstream, protocol string) {
		client, app := u.tunnel(s, protocol)
		large := clientFrame(finBit|byte(opBinary), make([]byte, 200_000))
		client.write(clientFrame(finBit|byte(opText), []byte("before")), large[:20])
		app.expectMasked(opText, "before")
		go client.rw.Write(large[20:])
		app.expectMasked(opClose, string(closePayload(1009, "message over max_message_size")))
		client.expectClose(1009, "max_message_size")
		app.write(serverFrame(finBit|byte(opClose), string(closePayload(1009, ""))))
		app.deadline(time.Now().Add(patience))
		if rest, _ := io.ReadAll(app.br); len(rest) > 0 {
			t.Errorf("%d more bytes passed", len(rest))
		}
	})
}

// An application that neither reads nor writes is let go when its socket ends.
func TestTunnelStalledUpstream(t *testing.T) {
	onEveryTunnel(t, "max_lifetime 300ms", func(t *testing.T, s *server, u *upstream, protocol string) {
		closed := len(s.logs.entries("socket closed"))
		client, app := u.tunnel(s, protocol)
		defer app.rw.Close()
		go func() {
			block := clientFrame(finBit|byte(opBinary), make([]byte, 1<<20))
			for {
				if _, err := client.rw.Write(block); err != nil {
					return
				}
			}
		}()
		s.logs.await(t, "socket closed", closed+1)
	})
}

// So is a client that doesn't answer the application's Close frame.
func TestTunnelClientIgnoresClose(t *testing.T) {
	onEveryTunnel(t, "keepalive off", func(t *testing.T, s *server, u *upstream, protocol string) {
		closed := len(s.logs.entries("socket closed"))
		client, app := u.tunnel(s, protocol)
		app.write(serverFrame(finBit|byte(opClose), string(closePayload(4001, "go"))))
		app.rw.Close()
		client.expectClose(4001, "go")
		entries := s.logs.await(t, "socket closed", closed+1)
		if by := entries[len(entries)-1]["closed_by"]; by != string(byUpstream) {
			t.Errorf("closed by %v, want %v", by, byUpstream)
		}
	})
}

// A client that is gone is gone for the application, too, before any timeout.
func TestTunnelClientGone(t *testing.T) {
	onEveryTunnel(t, "keepalive off", func(t *testing.T, s *server, u *upstream, protocol string) {
		closed := len(s.logs.entries("socket closed"))
		client, app := u.tunnel(s, protocol)
		client.send(opText, "hello")
		app.expectMasked(opText, "hello")
		client.rw.Close()
		app.deadline(time.Now().Add(patience))
		if rest, err := io.ReadAll(app.br); len(rest) > 0 || err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("got %q, %v, want the end", rest, err)
		}
		entries := s.logs.await(t, "socket closed", closed+1)
		if by := entries[len(entries)-1]["closed_by"]; by != string(byClient) {
			t.Errorf("closed by %v, want %v", by, byClient)
		}
	})
}

func TestExitWithTunnels(t *testing.T) {
	u := listenUpstream(t)
	p := startProcess(t, "", "websocket passthrough {\nallowed_origins *\n}\nrespond /no-socket 204\nreverse_proxy "+u.Addr().String())
	for _, protocol := range protocols {
		client, app := u.tunnel(&p.server, protocol)
		client.write(clientFrame(finBit|byte(opText), []byte("never finished"))[:10])
		defer app.rw.Close()
		_, app = u.tunnel(&p.server, protocol)
		defer app.rw.Close()
	}
	p.terminate(t)
	p.expectExit(t)
}

// A client that closed and went leaves no application behind that doesn't care.
func TestTunnelUpstreamIgnoresClose(t *testing.T) {
	onEveryTunnel(t, "keepalive off", func(t *testing.T, s *server, u *upstream, protocol string) {
		closed := len(s.logs.entries("socket closed"))
		client, app := u.tunnel(s, protocol)
		client.sendClose(4002, "bye")
		app.expectMasked(opClose, string(closePayload(4002, "bye")))
		client.rw.Close()
		entries := s.logs.await(t, "socket closed", closed+1)
		if last := entries[len(entries)-1]; last["closed_by"] != string(byClient) || last["close_code"] != 4002.0 {
			t.Errorf("closed by %v with %v, want %v with 4002", last["closed_by"], last["close_code"], byClient)
		}
	})
}
