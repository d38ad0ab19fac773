package caddywebsocket

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/seed-21dbdb71/caddy-websocket/internal/stream"
	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest/conformance"
)

func keepaliveHandler() *Handler {
	return &Handler{
		Mode: modePassthrough, KeepaliveInterval: caddy.Duration(30 * time.Second), KeepaliveTimeout: caddy.Duration(time.Minute),
	}
}

// onEveryPipe runs f in bubbles for tunnels of both kinds.
func onEveryPipe(t *testing.T, f func(t *testing.T, extendedConnect bool)) {
	t.Helper()
	for name, extendedConnect := range map[string]bool{"hijack": false, "extended connect": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) { f(t, extendedConnect) })
		})
	}
}

// Without a limit, too, broken frames of a client's pass without ending its pings
// or their death, and the log says what is missing.
func TestTunnelUnsupervised(t *testing.T) {
	onEveryPipe(t, func(t *testing.T, extendedConnect bool) {
		client, app := tunnelPipe(t, keepaliveHandler(), extendedConnect)
		s := onlySession(t)
		broken := wstest.ClientFrame(ws.FinBit|3, []byte("reserved"))
		_, _ = client.Write(broken)
		for range 10 {
			time.Sleep(25 * time.Second)
			_, _ = client.Write([]byte{0}) // life, of a kind
		}
		synctest.Wait()
		if got := app.bytes(); !bytes.Equal(got, append(broken, make([]byte, 10)...)) {
			t.Errorf("the application got %x", got)
		}
		if pings := s.keepalive.pings.Load(); pings < 5 {
			t.Errorf("%d pings were sent", pings)
		}
		fields := s.data()
		if fields["supervised"] != false || !strings.Contains(fields["error"].(string), "client can't be followed: close 1002: reserved opcode 3") {
			t.Errorf("the report says %v", fields)
		}
		time.Sleep(90 * time.Second)
		if howEnded(s).by != byKeepaliveTimeout {
			t.Errorf("the silent client's session ended as %v", howEnded(s))
		}
	})
}

// A client that receives one frame for long can't be asked for a sign of life, and
// isn't dead.
func TestTunnelLongFrame(t *testing.T) {
	onEveryPipe(t, func(t *testing.T, extendedConnect bool) {
		client, app := tunnelPipe(t, keepaliveHandler(), extendedConnect)
		s := onlySession(t)
		frame := wstest.ServerFrame(ws.FinBit|byte(ws.OpText), wstest.Letters(100))
		for i := range 10 {
			if i > 0 {
				time.Sleep(49 * time.Second)
			}
			_, _ = app.Write(frame[len(frame)*i/10 : len(frame)*(i+1)/10])
		}
		synctest.Wait()
		got, ok := bytes.CutPrefix(client.bytes(), frame)
		if !ok || len(got) != 2+ws.PingPayloadLen || howEnded(s) != (ending{}) {
			t.Fatalf("the client got %x, and the session ended as %v", client.bytes(), howEnded(s))
		}
		// Now it has been asked, and has half of the timeout to answer.
		time.Sleep(29 * time.Second)
		if howEnded(s) != (ending{}) {
			t.Errorf("the session ended as %v", howEnded(s))
		}
		time.Sleep(2 * time.Second)
		if howEnded(s).by != byKeepaliveTimeout {
			t.Errorf("the silent client's session ended as %v", howEnded(s))
		}
	})
}

// A frame that doesn't go on is no sign of life.
func TestTunnelStalledFrame(t *testing.T) {
	onEveryPipe(t, func(t *testing.T, extendedConnect bool) {
		_, app := tunnelPipe(t, keepaliveHandler(), extendedConnect)
		s := onlySession(t)
		_, _ = app.Write(wstest.ServerFrame(ws.FinBit|byte(ws.OpText), wstest.Letters(100))[:50])
		time.Sleep(61 * time.Second)
		if howEnded(s).by != byKeepaliveTimeout {
			t.Errorf("the silent client's session ended as %v", howEnded(s))
		}
	})
}

// A client that stops reading while a Ping waits for the end of a frame ends its
// session as any other that stops.
func TestTunnelStallsBeforePing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &Handler{
			Mode: modePassthrough, AllowedOrigins: []string{"*"}, KeepaliveInterval: caddy.Duration(defaultKeepaliveInterval),
		}
		provision(t, h)
		clientSide, client := net.Pipe()
		appSide, app := net.Pipe()
		defer client.Close()
		defer app.Close()
		r := httptest.NewRequest("GET", "/", nil)
		s := newSession(h, r)
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := s.passthrough(&pipeResponse{conn: clientSide}, r, proxyTo(appSide)); err != nil {
				t.Errorf("passthrough: %v", err)
			}
			s.finish()
		}()
		frame := wstest.ServerFrame(ws.FinBit|byte(ws.OpText), "in two halves")
		app.Write(frame[:5])
		if _, err := io.ReadFull(client, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(defaultKeepaliveInterval + time.Second)
		if !s.out.Waiting() {
			t.Fatal("no Ping is due")
		}
		start := time.Now()
		app.Write(slices.Concat(frame[5:], wstest.ServerFrame(ws.FinBit|byte(ws.OpText), ""), frame))
		<-done
		if howEnded(s).by != byWriteTimeout {
			t.Errorf("closed by %s, want %s", howEnded(s).by, byWriteTimeout)
		}
		if took := time.Since(start); took > defaultWriteTimeout*9/8 {
			t.Errorf("that took %v: there is nothing to wait for from a client that has stalled", took)
		}
	})
}

// An application that announces a long frame, and sends none of it, holds no more than one
// that sends little.
func TestAnnouncedFrameHoldsLittle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &Handler{Mode: modePassthrough, AllowedOrigins: []string{"*"}, BufferSize: 4096}
		provision(t, h)
		s := newSession(h, httptest.NewRequest(http.MethodGet, "/", nil))
		tun := &tunnel{session: s, appDone: make(chan struct{}), setDone: func() {}}
		pipe, client := net.Pipe()
		defer client.Close()
		go func() { _, _ = io.Copy(io.Discard, client) }()
		s.begin(stream.NewConn(pipe, pipe, nil, time.Minute))
		header := ws.AppendHeader(nil, ws.FinBit|byte(ws.OpBinary), 8<<20)
		if expected, err := tun.pushRead(header, len(header), false); err != nil || expected > int64(h.buffers.Size) {
			t.Errorf("after the header %d bytes are expected, %v, want at most %d", expected, err, h.buffers.Size)
		}
		if expected, err := tun.pushRead(make([]byte, 4096), 4096, true); err != nil || expected < 1<<20 {
			t.Errorf("after a full read %d bytes are expected, %v, want the rest of the frame", expected, err)
		}
		s.finish()
	})
}

// A client can't get around a rate with what the application reads before it accepts the
// socket: a frame that ends in what looks like the header of an endless one.
func TestRateBeforeAccept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &Handler{Mode: modePassthrough, KeepaliveInterval: -1, MessageRate: &Rate{Limit: 2, Per: caddy.Duration(time.Hour), Action: actionClose}}
		var got bytes.Buffer
		client := tunnelPipeTo(t, h, true, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, _ = io.Copy(&got, r.Body)
			}()
			time.Sleep(time.Millisecond)
			w.WriteHeader(http.StatusOK)
			<-done
			return nil
		}))
		time.Sleep(time.Second)
		endless := ws.AppendHeader(nil, ws.FinBit|byte(ws.OpBinary), 1<<40)
		first := wstest.ClientFrame(ws.FinBit|byte(ws.OpText), append(bytes.Repeat([]byte("x"), 50), endless...))
		ws.Mask(first[6:], wstest.MaskingKey, 0) // so that it is the header as it is sent
		copy(first[2:6], []byte{0, 0, 0, 0})
		_, _ = client.Write(first[:56])
		synctest.Wait()
		_, _ = client.Write(first[56:])
		for range 10 {
			_, _ = client.Write(wstest.ClientFrame(ws.FinBit|byte(ws.OpBinary), nil))
			time.Sleep(time.Millisecond)
		}
		client.Close()
		time.Sleep(closeWait + time.Second)
		if n := bytes.Count(got.Bytes(), wstest.ClientFrame(ws.FinBit|byte(ws.OpBinary), nil)); n > 1 {
			t.Errorf("the application got %d messages more, want 1", n)
		}
	})
}

// FuzzTunnel feeds both ends of a tunnel anything. Bytes pass as they are, but
// for Pings of ours between two frames, until a Close frame or a limit.
func FuzzTunnel(f *testing.F) {
	seeds := conformance.Seeds()
	for i, seed := range seeds {
		down := unmasked(seeds[len(seeds)-1-i])
		f.Add(seed, down, []byte{0}, uint16(0), i%2 == 0)
		f.Add(seed, down, []byte{5, 250}, uint16(100), i%2 == 1)
	}
	long := []byte{ws.FinBit | byte(ws.OpBinary), ws.MaskBit | 126, 0, 5, 0, 0, 0, 0, 1, 2, 3, 4, 5} // not in its shortest form
	f.Add(slices.Concat(long, wstest.ClientFrame(ws.FinBit|byte(ws.OpBinary), make([]byte, 200))), []byte(nil), []byte{9}, uint16(100), false)
	f.Add(slices.Concat(wstest.ServerFrame(ws.FinBit|byte(ws.OpText), "unmasked"), long), long, []byte{9}, uint16(100), true)
	f.Fuzz(func(t *testing.T, up, down, sizes []byte, limit uint16, extendedConnect bool) {
		bubble(t, func(t *testing.T) {
			h := &Handler{
				Mode: modePassthrough, KeepaliveInterval: caddy.Duration(time.Second), KeepaliveTimeout: caddy.Duration(time.Hour),
				BufferSize: minBufferSize, MaxMessageSize: int64(limit),
			}
			if len(sizes)%2 == 0 {
				h.UpstreamKeepaliveInterval, h.UpstreamKeepaliveTimeout = h.KeepaliveInterval, h.KeepaliveTimeout
			}
			client, app := tunnelPipe(t, h, extendedConnect)
			s := onlySession(t)
			feed(client, app, up, down, sizes)
			synctest.Wait() // what was to pass has passed
			checkPassed(t, "client", withoutAppPings(app.bytes(), s.app.appKeepalive.nonce), up, true, int64(limit))
			checkPassed(t, "application", withoutPings(client.bytes(), s.keepalive.nonce), down, false, int64(limit))
		})
	})
}

// FuzzRates has a client that sends anything, and too much. All of it passes in the end, or is
// refused, as without rates.
func FuzzRates(f *testing.F) {
	for i, seed := range conformance.Seeds() {
		f.Add(seed, []byte{250, 3}, uint8(i%3), uint8(i), i%2 == 0)
	}
	f.Fuzz(func(t *testing.T, up, sizes []byte, messages, size uint8, extendedConnect bool) {
		bubble(t, func(t *testing.T) {
			h := &Handler{
				Mode: modePassthrough, KeepaliveInterval: caddy.Duration(time.Second), KeepaliveTimeout: caddy.Duration(24 * time.Hour), BufferSize: minBufferSize,
				MessageRate: &Rate{Limit: int64(messages) + 1, Per: caddy.Duration(time.Second)},
				ByteRate:    &Rate{Limit: int64(size) + 1, Per: caddy.Duration(time.Second)},
			}
			client, app := tunnelPipe(t, h, extendedConnect)
			feed(client, app, up, nil, sizes)
			time.Sleep(time.Hour) // for what was delayed
			synctest.Wait()
			checkPassed(t, "client", app.bytes(), up, true, math.MaxInt64) // with any limit, what is no frames is refused
		})
	})
}

// feed has both ends send their bytes in turns, in pieces of the given sizes,
// and now and then nothing for so long that a Ping is due.
func feed(client, app *tunnelEnd, up, down, sizes []byte) {
	ends := []struct {
		conn net.Conn
		in   *wstest.Pieces
	}{{client, &wstest.Pieces{In: up, Sizes: sizes}}, {app, &wstest.Pieces{In: down, Sizes: sizes}}}
	piece := make([]byte, 256)
	for turn := 0; len(ends[0].in.In)+len(ends[1].in.In) > 0; turn++ {
		for _, end := range ends {
			if n, err := end.in.Read(piece); err == nil {
				_, _ = end.conn.Write(piece[:n])
			}
		}
		if turn%3 == 0 && turn < 1000 {
			time.Sleep(time.Second)
		}
		synctest.Wait()
	}
}

// checkPassed holds what has arrived against what was sent by one end.
func checkPassed(t *testing.T, from string, got, sent []byte, client bool, limit int64) {
	t.Helper()
	least, most := passes(sent, client, limit)
	n := 0
	for n < min(len(got), most) && got[n] == sent[n] {
		n++
	}
	if closed := ourClose(got, n) && (onlyEnded() || most < len(sent)); n < len(got) && !closed {
		t.Errorf("from the %s: %x passed as %x", from, sent, got)
	}
	if n < least-ws.MaxHeld && !onlyEnded() {
		t.Errorf("from the %s: no more than %d bytes of %x passed", from, n, sent)
	}
}

// ourClose reports whether p ends in a Close frame that the tunnel makes at its
// end, which starts no later than the byte at which p isn't what was sent.
func ourClose(p []byte, different int) bool {
	for at := different; at >= 0; at-- {
		h, n, err := ws.ParseHeader(p[at:])
		if err == nil && n > 0 && h.Opcode == ws.OpClose && len(p)-at-n == int(h.Length) {
			return true // an answer to the other end's, or one of the tunnel's own
		}
	}
	return false
}

// passes is how much of sent is to pass at least and at most: all of it, but that
// nobody cares for what comes after a Close frame, and nothing passes of a
// message over the limit or, where there is one, of what a client sends that are
// no frames.
func passes(sent []byte, client bool, limit int64) (least, most int) {
	least = len(sent)
	size, within := int64(0), false
	for at := 0; at < len(sent); {
		h, n, err := ws.ParseHeader(sent[at:])
		if err != nil && client && limit > 0 {
			return min(least, at), at
		}
		if err != nil || n == 0 || h.Masked && !client {
			break
		}
		if !h.Opcode.IsControl() {
			if !within {
				size = 0
			}
			if limit > 0 && h.Length > limit-size {
				return min(least, at), at
			}
			size += h.Length
			within = !h.Fin
		}
		if h.Length > int64(len(sent)-at-n) {
			break
		}
		if at += n + int(h.Length); h.Opcode == ws.OpClose {
			least = min(least, at)
		}
	}
	return least, len(sent)
}

// withoutPings takes the Pings of a session out of what its client received.
func withoutPings(p []byte, nonce uint32) []byte {
	start := binary.BigEndian.AppendUint32([]byte{ws.FinBit | byte(ws.OpPing), ws.PingPayloadLen}, nonce)
	for {
		i := bytes.Index(p, start)
		if i < 0 || i+len(start)+4 > len(p) {
			return p
		}
		p = slices.Concat(p[:i], p[i+len(start)+4:])
	}
}

// unmasked makes a server's frames of a client's, as far as they are frames.
func unmasked(p []byte) (out []byte) {
	for {
		h, n, err := ws.ParseHeader(p)
		if err != nil || n == 0 || !h.Masked || int64(len(p)-n) < h.Length {
			return append(out, p...)
		}
		payload := bytes.Clone(p[n : n+int(h.Length)])
		ws.Mask(payload, h.Mask, 0)
		out = append(ws.AppendHeader(out, p[0], len(payload)), payload...)
		p = p[n+len(payload):]
	}
}

// onlySession is the one open session, which is ended if there is none.
func onlySession(t *testing.T) *session {
	t.Helper()
	sessions.mu.Lock()
	defer sessions.mu.Unlock()
	for _, s := range sessions.byID {
		return s
	}
	t.Fatal("no session is open")
	return nil
}

// onlyEnded reports whether the session that a bubble has is about to end.
func onlyEnded() bool {
	sessions.mu.Lock()
	defer sessions.mu.Unlock()
	for _, s := range sessions.byID {
		return howEnded(s) != ending{}
	}
	return true
}

// A tunnelEnd is one end of a tunnel, of which all that arrives is kept.
type tunnelEnd struct {
	net.Conn
	mu  sync.Mutex // guards got
	got bytes.Buffer
}

func (e *tunnelEnd) bytes() []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	return bytes.Clone(e.got.Bytes())
}

// start receives until the test ends.
func (e *tunnelEnd) start(t *testing.T) {
	received := make(chan struct{})
	go func() {
		e.receive()
		close(received)
	}()
	t.Cleanup(func() {
		e.Close()
		<-received
	})
}

func (e *tunnelEnd) receive() {
	piece := make([]byte, 4096)
	for {
		n, err := e.Read(piece)
		e.mu.Lock()
		e.got.Write(piece[:n])
		e.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// tunnelPipe makes a tunnel over two pipes, with a proxy behind it that copies as
// reverse_proxy does.
func tunnelPipe(t *testing.T, h *Handler, extendedConnect bool) (client, app *tunnelEnd) {
	t.Helper()
	appSide, appConn := net.Pipe()
	app = &tunnelEnd{Conn: appConn}
	app.start(t)
	return tunnelPipeTo(t, h, extendedConnect, proxyTo(appSide)), app
}

// tunnelPipeTo makes a tunnel from a pipe to the next handler.
func tunnelPipeTo(t *testing.T, h *Handler, extendedConnect bool, next caddyhttp.Handler) (client *tunnelEnd) {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	if err := h.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	h.logger = zap.NewNop()
	clientSide, clientConn := net.Pipe()
	client = &tunnelEnd{Conn: clientConn}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/", nil)
		if extendedConnect {
			r.ProtoMajor, r.Body = 2, &unevenConn{Conn: clientSide}
		}
		s := newSession(h, r)
		if err := s.passthrough(&pipeResponse{conn: &unevenConn{Conn: clientSide}}, r, next); err != nil {
			t.Errorf("passthrough: %v", err)
		}
		s.finish()
		clientSide.Close()
	}()
	t.Cleanup(func() { <-done })
	client.start(t)
	synctest.Wait()
	return client
}

func proxyTo(app net.Conn) caddyhttp.Handler {
	return caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		conn, err := take(w, r)
		if err != nil {
			return err
		}
		return proxyBetween(conn, app)
	})
}

// proxyBetween copies in both directions until one ends.
func proxyBetween(conn, app io.ReadWriteCloser) error {
	var copies sync.WaitGroup
	copies.Go(func() {
		_, _ = io.Copy(app, conn)
		app.Close()
		conn.Close()
	})
	_, _ = io.Copy(conn, app)
	app.Close()
	conn.Close()
	copies.Wait()
	return nil
}

// take accepts a socket as reverse_proxy does.
func take(w http.ResponseWriter, r *http.Request) (io.ReadWriteCloser, error) {
	if r.ProtoMajor == 1 {
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, _, err := http.NewResponseController(w).Hijack()
		return conn, err
	}
	w.WriteHeader(http.StatusOK)
	return struct {
		io.ReadCloser
		io.Writer
	}{r.Body, w}, http.NewResponseController(w).Flush()
}

// An unevenConn is a connection that now and then reads nothing, as readers may.
type unevenConn struct {
	net.Conn
	reads int
}

func (c *unevenConn) Read(p []byte) (int, error) {
	if c.reads++; c.reads%3 == 0 {
		return 0, nil
	}
	return c.Conn.Read(p)
}

// A pipeResponse is a response whose connection is there to be hijacked.
type pipeResponse struct {
	conn   net.Conn
	header http.Header
}

func (r *pipeResponse) Header() http.Header         { return r.header }
func (r *pipeResponse) WriteHeader(int)             {}
func (r *pipeResponse) Write(p []byte) (int, error) { return r.conn.Write(p) }
func (r *pipeResponse) Flush()                      {}

func (r *pipeResponse) SetReadDeadline(at time.Time) error  { return r.conn.SetReadDeadline(at) }
func (r *pipeResponse) SetWriteDeadline(at time.Time) error { return r.conn.SetWriteDeadline(at) }

func (r *pipeResponse) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return r.conn, bufio.NewReadWriter(bufio.NewReader(r.conn), bufio.NewWriter(r.conn)), nil
}
