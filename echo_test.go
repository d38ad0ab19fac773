package caddywebsocket

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest/conformance"
)

// Every close code gets the verdict that it should.
func TestCloseCodes(t *testing.T) {
	for code := range 5001 {
		bubble(t, func(t *testing.T) {
			p := pipe(t, new(Handler))
			p.WriteRaw(wstest.ClientBytes(fmt.Sprintf("X:%d", code)))
			if mayBeSent(code) {
				p.ExpectClose(code, "")
			} else {
				p.ExpectClose(1002, fmt.Sprintf("close code %d", code))
			}
			p.ExpectEnd()
		})
	}
}

// A Close that is cut anywhere, or that never ends, isn't one.
func TestNothingComesBackForPartsOfFrames(t *testing.T) {
	for _, notation := range []string{"X:1000,bye", "P:ping", "T:%20", "B:%300", "z+T:%50"} {
		whole := wstest.ClientBytes(notation)
		for cut := range whole {
			bubble(t, func(t *testing.T) {
				p := pipe(t, &Handler{Compression: "on"})
				p.WriteRaw(whole[:cut])
				p.ExpectSilence(1)
				p.WriteRaw(whole[cut:])
				first, payload := p.ReadEvent()
				if notation[0] == 'P' {
					first ^= byte(ws.OpPing ^ ws.OpPong)
				}
				if !wstest.Matches(notation, first, payload) {
					t.Errorf("%s, cut after %d bytes: got %#x %q", notation, cut, first, bytes.TrimSpace(payload))
				}
			})
		}
	}
}

// countingConn counts reads.
type countingConn struct {
	net.Conn
	reads int
}

func (c *countingConn) Read(p []byte) (int, error) {
	c.reads++
	return c.Conn.Read(p)
}

// Where waiting takes the first bytes off the stream, the rest must not come in as small
// pieces.
func TestReadsAreLarge(t *testing.T) {
	const size = 256 << 10
	noise := make([]byte, size)
	for i := range noise {
		noise[i] = byte(mathrand.Uint32())
	}
	for name, message := range map[string][]byte{
		"plain":      wstest.ClientFrame(ws.FinBit|byte(ws.OpBinary), noise),
		"compressed": wstest.ClientFrame(ws.FinBit|ws.RSV1Bit|byte(ws.OpBinary), wstest.Deflate(string(noise))),
		"fragments": slices.Concat(wstest.ClientFrame(byte(ws.OpBinary), noise[:size/2]),
			wstest.ClientFrame(ws.FinBit, noise[size/2:])),
		"after a close frame": slices.Concat(wstest.ClientFrame(ws.FinBit|byte(ws.OpClose), nil), noise),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := &Handler{Compression: "on"}
				server, client := net.Pipe()
				conn := &countingConn{Conn: server}
				p := pipeOver(t, h, conn, client)
				go p.Conn.Write(message)
				for {
					if f := p.ReadFrame(); f.First&ws.FinBit != 0 {
						break
					}
				}
				p.Conn.Close()
				synctest.Wait()
				if limit := len(message)/int(h.BufferSize) + 20; conn.reads > limit {
					t.Errorf("%d reads for %d bytes, want no more than %d", conn.reads, len(message), limit)
				}
			})
		})
	}
}

// mayBeSent is the verdict on a close code (RFC 6455 §7.4 and IANA's registry).
func mayBeSent(code int) bool {
	return code >= 1000 && code <= 1003 || code >= 1007 && code <= 1014 || code >= 3000 && code <= 4999
}

const fuzzLimit = 2000 // bytes of a message

// FuzzEcho feeds a session anything, and knows what must come back. That the
// session ends and leaves nothing behind the bubble sees to.
func FuzzEcho(f *testing.F) {
	for _, seed := range conformance.Seeds() {
		f.Add(seed, []byte{0}, false)
		f.Add(seed, []byte{250, 3}, true)
	}
	f.Fuzz(func(t *testing.T, stream, sizes []byte, deflate bool) {
		bubble(t, func(t *testing.T) {
			h := &Handler{KeepaliveInterval: -1, BufferSize: minBufferSize, MaxMessageSize: fuzzLimit}
			if deflate {
				h.Compression = "on"
			}
			server, client := net.Pipe()
			p := pipeOver(t, h, &unevenConn{Conn: server}, client)
			var got bytes.Buffer
			ended := make(chan struct{})
			go func() {
				_, _ = io.Copy(&got, p.Reader)
				close(ended)
			}()
			in := &wstest.Pieces{In: stream, Sizes: sizes}
			for piece := make([]byte, 256); ; {
				n, err := in.Read(piece)
				if err != nil {
					break
				}
				if _, err = p.Conn.Write(piece[:n]); err != nil {
					break
				}
			}
			synctest.Wait()
			start := time.Now()
			p.Conn.Close()
			<-ended
			synctest.Wait()
			if waited := time.Since(start); waited > 0 {
				t.Errorf("%x: the session ended %v after its connection", stream, waited)
			}
			checkReplies(t, stream, deflate, wstest.Replies(t, got.Bytes()))
		})
	})
}

func checkReplies(t *testing.T, stream []byte, deflate bool, got []string) {
	t.Helper()
	r := referee{rest: stream, deflate: deflate}
	for r.frame() {
	}
	closed := 0
	if n := len(got); n > 0 {
		payload, ok := strings.CutPrefix(got[n-1], "close ")
		// A client may send a Close frame before the rest of a message, of which what is
		// there is wrong already.
		if ok && (r.closed == nil || r.rsv1 && payload != string(r.closed)) {
			got = got[:n-1]
			closed = int(binary.BigEndian.Uint16([]byte(payload)))
		}
	}
	want := r.replies
	if r.rsv1 && (closed == 1007 || closed == 1009) {
		// What is wrong with compressed data shows when the inflater gets to it, which
		// may be before what is wrong with, or answered of, a later frame.
		want = want[:max(r.sure, min(len(got), len(want)))]
		r.code = closed
	}
	if !slices.Equal(got, want) {
		t.Errorf("%x: got %q, want %q", stream, got, want)
	}
	if closed != r.code {
		t.Errorf("%x: closed with %d, want %d", stream, closed, r.code)
	}
}

// A referee reads a client's bytes in the slow and obvious way, and knows how a
// server has to reply.
type referee struct {
	rest    []byte
	deflate bool

	inMessage bool
	first     ws.Opcode
	rsv1      bool
	message   []byte

	replies []string
	sure    int    // how many replies there were when the current message began
	closed  []byte // the payload of the client's Close frame
	code    int    // of the server's own
}

func (r *referee) fail(code int) bool {
	r.code = code
	return false
}

// frame reads a frame and reports whether to go on.
func (r *referee) frame() bool {
	if len(r.rest) == 0 {
		return false
	}
	op, fin, rsv := ws.Opcode(r.rest[0]&0xf), r.rest[0]&ws.FinBit != 0, r.rest[0]&ws.RSVBits
	data := op == ws.OpText || op == ws.OpBinary
	switch {
	case op != ws.OpContinuation && !data && op != ws.OpClose && op != ws.OpPing && op != ws.OpPong,
		op >= ws.OpClose && !fin,
		rsv != 0 && (rsv != ws.RSV1Bit || !data || !r.deflate),
		data && r.inMessage, op == ws.OpContinuation && !r.inMessage:
		return r.fail(1002)
	case len(r.rest) < 2:
		return false
	}
	size, at := uint64(r.rest[1]&0x7f), 2
	if r.rest[1]&ws.MaskBit == 0 || op >= ws.OpClose && size > 125 {
		return r.fail(1002)
	}
	if long := map[uint64]int{126: 2, 127: 8}[size]; long > 0 {
		if at += long; len(r.rest) < at {
			return false
		}
		size = 0
		for _, b := range r.rest[2:at] {
			size = size<<8 | uint64(b)
		}
		if size < 126 || long == 8 && size < 65536 || size >= 1<<63 {
			return r.fail(1002)
		}
	}
	key := r.rest[at:]
	if len(key) < 4 {
		return false
	}
	available := key[4:]
	whole := uint64(len(available)) >= size
	if whole {
		available = available[:size]
	}
	payload := make([]byte, len(available))
	for i := range available {
		payload[i] = available[i] ^ key[i%4]
	}
	r.rest = r.rest[at+4+len(payload):]
	if op >= ws.OpClose {
		return whole && r.control(op, payload)
	}
	if data {
		r.first, r.rsv1, r.message, r.inMessage = op, rsv != 0, nil, true
		r.sure = len(r.replies)
	}
	return r.data(payload, size, whole, whole && fin)
}

func (r *referee) control(op ws.Opcode, payload []byte) bool {
	switch {
	case op == ws.OpPing:
		r.replies = append(r.replies, "pong "+string(payload))
	case op == ws.OpPong:
	case len(payload) == 0:
		r.closed = []byte{}
	case len(payload) == 1:
		return r.fail(1002)
	case !mayBeSent(int(binary.BigEndian.Uint16(payload))):
		return r.fail(1002)
	case !utf8.Valid(payload[2:]):
		return r.fail(1007)
	default:
		r.closed = payload
	}
	if op == ws.OpClose {
		r.replies = append(r.replies, "close "+string(r.closed))
	}
	return op != ws.OpClose
}

func (r *referee) data(payload []byte, size uint64, whole, last bool) bool {
	if !r.rsv1 && size > fuzzLimit-uint64(len(r.message)) {
		return r.fail(1009)
	}
	r.message = append(r.message, payload...)
	message := r.message
	if r.rsv1 {
		if !last {
			return whole
		}
		var code int
		if message, code = wstest.TryInflate(message); code == 0 && len(message) > fuzzLimit {
			code = 1009
		}
		if code != 0 {
			return r.fail(code)
		}
	}
	switch {
	case r.first == ws.OpText && (last && !utf8.Valid(message) || !possible(message)):
		return r.fail(1007)
	case last:
		r.replies = append(r.replies, strconv.Itoa(int(r.first))+" "+string(message))
		r.inMessage, r.rsv1 = false, false
	}
	return whole
}

// possible reports whether some bytes can follow that make p UTF-8.
func possible(p []byte) bool {
	for _, end := range []string{"", "\x80", "\x80\x80", "\x80\x80\x80", "\xbf", "\xbf\xbf", "\xbf\xbf\xbf", "\x90\x80\x80", "\xa0\x80", "\x8f\xbf\xbf", "\x9f\xbf"} {
		if utf8.Valid(append(bytes.Clone(p), end...)) {
			return true
		}
	}
	return false
}
