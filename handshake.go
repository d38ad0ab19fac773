package caddywebsocket

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-21dbdb71/caddy-websocket/internal/stream"
	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// An accepted is what a handshake came to.
type accepted struct {
	stream      stream.Stream
	subprotocol string
	deflate     *ws.Deflate // nil: messages are not compressed
}

// extensions returns the value of Sec-WebSocket-Extensions, empty if there is none.
func (a *accepted) extensions() string {
	if a.deflate == nil {
		return ""
	}
	return a.deflate.String()
}

// accept answers a handshake that has passed all checks and gives the stream of
// frames that follows.
//
// gorilla's Upgrader decides on the answer, except on extensions. It knows HTTP/1.1 only and writes
// to the connection itself, past access logs and header directives. So it is
// given the request as HTTP/1.1 would have it and a connection that keeps what
// it writes, and the answer goes out through w. If a subprotocol is given, it is
// answered whatever was offered.
func (h *Handler) accept(w http.ResponseWriter, r *http.Request, subprotocol string) (*accepted, error) {
	head := heads.Get().(*responseHead)
	defer head.release()
	conn, err := h.upgrader.Upgrade(head, http1Request(r), nil)
	if err != nil {
		return nil, caddyhttp.Error(http.StatusBadRequest, fmt.Errorf("upgrading: %w", err))
	}
	head.copyTo(w.Header(), r.ProtoMajor == 1)
	a := &accepted{subprotocol: conn.Subprotocol()}
	if subprotocol != "" {
		a.subprotocol = subprotocol
		w.Header()["Sec-WebSocket-Protocol"] = []string{subprotocol}
	}
	if h.Compression == "on" {
		if a.deflate = ws.AcceptDeflate(r.Header, h.ContextTakeover); a.deflate != nil {
			w.Header()["Sec-WebSocket-Extensions"] = []string{a.deflate.String()}
		}
	}
	if r.ProtoMajor == 1 {
		a.stream, err = hijack(w, r, time.Duration(h.WriteTimeout))
		return a, err
	}
	stream.AllowLongReads(r)
	a.stream = stream.NewBody(w, r, r.Body, time.Duration(h.WriteTimeout))
	w.WriteHeader(http.StatusOK)
	sendAnswer(a.stream)
	return a, nil
}

// sendAnswer sends the header of a response on HTTP/2 or HTTP/3. If it fails, so does the first
// read.
func sendAnswer(s stream.Stream) {
	if _, err := s.Write(nil); err != nil {
		s.Cut()
	}
}

// What is the same in each request that the Upgrader is given.
var (
	upgradeConnection = []string{"Upgrade"}
	upgradeProtocol   = []string{"websocket"}
	upgradeVersion    = []string{"13"}
	// upgradeKey is that of RFC 6455 §1.3, as good as any where there is none.
	upgradeKey = []string{"dGhlIHNhbXBsZSBub25jZQ=="}
)

// http1Request is a handshake as gorilla's Upgrader wants to see it: on HTTP/1.1,
// with at most one header each, and without extensions.
func http1Request(r *http.Request) *http.Request {
	header := http.Header{
		"Connection":            upgradeConnection,
		"Upgrade":               upgradeProtocol,
		"Sec-Websocket-Version": upgradeVersion,
		"Sec-Websocket-Key":     r.Header["Sec-Websocket-Key"],
	}
	if r.ProtoMajor > 1 {
		header["Sec-Websocket-Key"] = upgradeKey
	}
	if offered := ws.ListElements(r.Header["Sec-Websocket-Protocol"]); len(offered) > 0 {
		header["Sec-Websocket-Protocol"] = []string{strings.Join(offered, ",")}
	}
	return &http.Request{Method: http.MethodGet, Header: header}
}

// hijack sends a 101 with the headers in w and takes the connection over.
func hijack(w http.ResponseWriter, r *http.Request, writeTimeout time.Duration) (stream.Stream, error) {
	w.WriteHeader(http.StatusSwitchingProtocols)
	conn, brw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, caddyhttp.Error(http.StatusInternalServerError, fmt.Errorf("hijacking connection: %w", err))
	}
	s := streamOf(conn, brw, r, writeTimeout)
	// The HTTP server holds on to them, with 4 KiB each.
	*brw.Reader, *brw.Writer = bufio.Reader{}, bufio.Writer{}
	return s, nil
}

// streamOf makes a stream of a hijacked connection.
func streamOf(conn net.Conn, brw *bufio.ReadWriter, r *http.Request, writeTimeout time.Duration) stream.Stream {
	early, _ := brw.Peek(brw.Reader.Buffered())
	socket, ok := r.Context().Value(stream.ConnCtxKey).(net.Conn)
	if !ok {
		socket = conn
	}
	return stream.NewConn(conn, socket, bytes.Clone(early), writeTimeout)
}

// A responseHead is the response writer and the connection that an Upgrader
// writes the head of its response to.
type responseHead struct {
	http.ResponseWriter // nil: the Upgrader reports errors, it doesn't write them
	net.Conn            // nil: it has no use for the rest of a connection
	brw                 *bufio.ReadWriter
	head                []byte
}

// Large enough for the Upgrader to take them for its own instead of making some.
const headBufferSize = 512

var heads = sync.Pool{New: func() any {
	return &responseHead{brw: bufio.NewReadWriter(
		bufio.NewReaderSize(nil, headBufferSize), bufio.NewWriterSize(nil, headBufferSize))}
}}

func (h *responseHead) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h.brw.Reader.Reset(h)
	h.brw.Writer.Reset(h)
	return h, h.brw, nil
}

func (h *responseHead) Write(p []byte) (int, error) {
	h.head = append(h.head, p...)
	return len(p), nil
}

func (h *responseHead) Read([]byte) (int, error)         { return 0, errors.New("no connection") }
func (h *responseHead) SetDeadline(time.Time) error      { return nil }
func (h *responseHead) SetWriteDeadline(time.Time) error { return nil }
func (h *responseHead) Close() error                     { return nil }

func (h *responseHead) release() {
	h.head = h.head[:0]
	heads.Put(h)
}

// copyTo copies the fields of the head, all of them or those that HTTP/2 and
// HTTP/3 have too. Their names stay spelled as RFC 6455 has them, for clients
// that compare letters.
func (h *responseHead) copyTo(header http.Header, all bool) {
	_, fields, _ := strings.Cut(string(h.head), "\r\n")
	for line := range strings.SplitSeq(fields, "\r\n") {
		name, value, ok := strings.Cut(line, ": ")
		if !ok {
			continue
		}
		switch name {
		case "Upgrade", "Connection", "Sec-WebSocket-Accept":
			if !all {
				continue
			}
		}
		header[name] = []string{value}
	}
}
