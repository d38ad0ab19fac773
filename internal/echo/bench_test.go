package echo

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// The benchmarks below show what the module's parts cost, beside bare gorilla
// where it does the same.

// BenchmarkEcho is a round trip of one message through an echo socket over a
// connection that costs nothing.
func BenchmarkEcho(b *testing.B) {
	for _, size := range []int{125, 4 << 10, 64 << 10, 1 << 20} {
		for _, server := range []struct {
			name string
			echo func(*loopStream)
		}{
			{"module", echoLoop},
			{"gorilla", echoLoopGorilla},
		} {
			b.Run(fmt.Sprintf("%d/%s", size, server.name), func(b *testing.B) {
				stream := newLoopStream(size, b.N)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				b.ResetTimer()
				server.echo(stream)
			})
		}
	}
}

// newConn returns a Conn that reads from in and writes to out.
func newConn(in ws.Input, out io.Writer, deflate bool) *Conn {
	var keepalive ws.Keepalive
	c := &Conn{
		Out: new(ws.Writer), Buffers: ws.NewBufferPool(bufferSize + ws.MaxHeader), Pong: func([]byte) {},
		Received: new(ws.Traffic), Sent: new(ws.Traffic),
	}
	if deflate {
		c.Deflate = new(ws.Deflate)
	}
	c.Out.Begin(out, &keepalive, nil, nil)
	c.In = ws.NewReader(in, &keepalive, c.Buffers, c.Out.Flush, deflate)
	return c
}

// bufferSize is the default of buffer_size, in bytes.
const bufferSize = 4 << 10

func echoLoop(stream *loopStream) { _ = newConn(stream, stream, true).Messages() }

// BenchmarkEchoCompressed is the same for compressed messages, whose sizes are
// those before compression. It shows what part of that comes back.
func BenchmarkEchoCompressed(b *testing.B) {
	for _, size := range []int{60, 125, 1 << 10, 4 << 10, 64 << 10, 1 << 20} {
		for _, data := range []struct{ name, message string }{{"records", wstest.Records(size)}, {"noise", wstest.Noise(size)}} {
			b.Run(fmt.Sprintf("%d/%s", size, data.name), func(b *testing.B) {
				stream := &loopStream{
					message: wstest.ClientFrame(ws.FinBit|ws.RSV1Bit|byte(ws.OpBinary), wstest.Deflate(data.message)), left: b.N,
				}
				b.SetBytes(int64(size))
				b.ReportAllocs()
				b.ResetTimer()
				echoLoop(stream)
				b.ReportMetric(float64(stream.written)/float64(b.N)/float64(size), "sent/B")
			})
		}
	}
}

func echoLoopGorilla(stream *loopStream) {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header = http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}
	echoGorilla(loopHijacker{ResponseRecorder: httptest.NewRecorder(), conn: loopConn{stream: stream}}, r)
}

// echoGorilla is the server that gorilla's documentation shows.
func echoGorilla(w http.ResponseWriter, r *http.Request) {
	upgrader := websocket.Upgrader{}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	wstest.EchoMessages(conn)
}

// A loopStream has one message come in again and again.
type loopStream struct {
	message []byte
	at      int
	left    int
	written int
}

func newLoopStream(size, count int) *loopStream {
	return &loopStream{message: wstest.ClientFrame(ws.FinBit|byte(ws.OpBinary), make([]byte, size)), left: count}
}

func (s *loopStream) Wait() error { return nil }

func (s *loopStream) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, &ws.PeerCloseError{}
	}
	n := copy(p, s.message[s.at:])
	if s.at += n; s.at == len(s.message) {
		s.at = 0
		s.left--
	}
	return n, nil
}

func (s *loopStream) Write(p []byte) (int, error) {
	s.written += len(p)
	return len(p), nil
}

// A loopConn is a connection over a loopStream.
type loopConn struct {
	net.Conn
	stream *loopStream
}

func (c loopConn) Read(p []byte) (int, error)       { return c.stream.Read(p) }
func (c loopConn) Write(p []byte) (int, error)      { return c.stream.Write(p) }
func (c loopConn) SetDeadline(time.Time) error      { return nil }
func (c loopConn) SetWriteDeadline(time.Time) error { return nil }
func (c loopConn) Close() error                     { return nil }

type loopHijacker struct {
	*httptest.ResponseRecorder
	conn loopConn
}

func (h loopHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}
