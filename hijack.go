package caddywebsocket

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-21dbdb71/caddy-websocket/internal/stream"
)

// A hijackWriter begins a tunnel when the next handler takes an HTTP/1.1
// connection over.
type hijackWriter struct {
	*caddyhttp.ResponseWriterWrapper
	t        *tunnel
	r        *http.Request
	switched bool // the status 101 has been written
}

func (w *hijackWriter) WriteHeader(status int) {
	w.switched = status == http.StatusSwitchingProtocols
	w.ResponseWriterWrapper.WriteHeader(status)
}

// hijackedSize is that of the buffers of a connection that the next handler
// takes over, in bytes: room for most answers to a handshake. What is larger
// goes past them.
const hijackedSize = 512

func (w *hijackWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, brw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	t := w.t
	if w.switched {
		t.agree(w.Header())
	} else {
		t.head = make([]byte, 0, 512)
		t.out.Hold() // until the answer has been written
	}
	t.begin(streamOf(conn, brw, w.r, time.Duration(t.handler.WriteTimeout)))
	c := &tunnelConn{conn, t}
	// In their place, for the HTTP server holds on to them, with 4 KiB each.
	*brw.Reader = *bufio.NewReaderSize(c, hijackedSize)
	*brw.Writer = *bufio.NewWriterSize(c, hijackedSize)
	return c, brw, nil
}

// A tunnelConn is the connection that the next handler gets. It has the tunnel's own
// WriteTo and ReadFrom: goroutines wait in them, and a method in between would be
// one more frame on their stacks.
type tunnelConn struct {
	net.Conn
	*tunnel
}

func (c *tunnelConn) Read(p []byte) (int, error)  { return c.tunnel.Read(p) }
func (c *tunnelConn) Write(p []byte) (int, error) { return c.tunnel.Write(p) }

// SetDeadline does the same: write_timeout is for writes.
func (c *tunnelConn) SetDeadline(at time.Time) error { return c.SetReadDeadline(at) }

// SetWriteDeadline does nothing.
func (c *tunnelConn) SetWriteDeadline(time.Time) error { return nil }

// CloseWrite says that no more comes from the application.
func (c *tunnelConn) CloseWrite() error {
	c.stream.CloseWrite(true)
	return nil
}

// Close has the handler end the session, which may take a moment that a caller
// with a lock in hand should not wait.
func (c *tunnelConn) Close() error {
	c.setDone()
	c.stream.Interrupt()
	return nil
}

// A tunnelWriter begins a tunnel when the next handler accepts an Extended
// CONNECT.
type tunnelWriter struct {
	*caddyhttp.ResponseWriterWrapper
	t        *tunnel
	r        *http.Request
	answered bool
}

func (w *tunnelWriter) WriteHeader(status int) {
	if w.t.begun() {
		return
	}
	w.answered = w.answered || status >= 200
	tunnel := status >= 200 && status < 300 && status != http.StatusNoContent // with which the stream ends
	if tunnel {
		w.describe()
	}
	w.ResponseWriterWrapper.WriteHeader(status)
	if tunnel {
		w.t.agree(w.Header())
		w.t.begin(stream.NewBody(w.ResponseWriter, w.r, w.r.Body, time.Duration(w.t.handler.WriteTimeout)))
		w.t.out.Exclusively(func() { sendAnswer(w.t.stream) })
	}
}

// describe sees to the fields of an answer that opens a tunnel, whatever it says
// of content: there is none (RFC 9110 §9.3.6). The length of a page is left in
// place, for that is what some applications answer any request with.
func (w *tunnelWriter) describe() {
	h := w.Header()
	w.t.content = h.Get("Content-Type") != ""
	if !w.t.content || h.Get("Content-Length") == "0" {
		h.Del("Content-Length")
	}
}

// answer answers with the status that a handler means when it gives none.
func (w *tunnelWriter) answer() {
	if !w.answered {
		w.WriteHeader(http.StatusOK)
	}
}

func (w *tunnelWriter) Write(p []byte) (int, error) {
	w.answer()
	if !w.t.begun() {
		return w.ResponseWriterWrapper.Write(p)
	}
	return w.t.Write(p)
}

func (w *tunnelWriter) ReadFrom(r io.Reader) (int64, error) {
	w.answer()
	if !w.t.begun() {
		return w.ResponseWriterWrapper.ReadFrom(r)
	}
	return w.t.ReadFrom(r)
}

// FlushError does nothing for a tunnel, where each write is flushed.
func (w *tunnelWriter) FlushError() error {
	w.answer()
	if w.t.begun() {
		return nil
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// A tunnelBody is the body of an Extended CONNECT.
type tunnelBody struct {
	io.ReadCloser
	t *tunnel
}

func (b *tunnelBody) Read(p []byte) (int, error) {
	if b.t.begun() {
		return b.t.Read(p)
	}
	return b.t.readBefore(b.ReadCloser, p)
}

func (b *tunnelBody) Close() error {
	if !b.t.begun() {
		return b.ReadCloser.Close()
	}
	b.t.setDone()
	b.t.stream.Interrupt()
	return nil
}
