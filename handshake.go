package caddywebsocket

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-21dbdb71/caddy-websocket/internal/handshake"
	"github.com/seed-21dbdb71/caddy-websocket/internal/stream"
	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// An accepted is a socket whose handshake has been answered, with what was agreed on.
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
// frames that follows. The answer goes out through w, so that access logs and header
// directives see it. If a subprotocol is given, it is answered whatever was offered.
func (h *Handler) accept(w http.ResponseWriter, r *http.Request, subprotocol string) (*accepted, error) {
	a := &accepted{subprotocol: cmp.Or(subprotocol, h.chooseSubprotocol(r))}
	if h.Compression == "on" {
		a.deflate = ws.AcceptDeflate(r.Header, h.ContextTakeover)
	}
	a.setHeader(w.Header(), r)
	if r.ProtoMajor == 1 {
		var err error
		a.stream, err = hijack(w, r, time.Duration(h.WriteTimeout))
		return a, err
	}
	stream.AllowLongReads(r)
	a.stream = stream.NewBody(w, r, r.Body, time.Duration(h.WriteTimeout))
	w.WriteHeader(http.StatusOK)
	sendAnswer(a.stream)
	return a, nil
}

// chooseSubprotocol returns the first of the handler's subprotocols that the client offers,
// empty if there is none.
func (h *Handler) chooseSubprotocol(r *http.Request) string {
	if len(h.Subprotocols) == 0 {
		return ""
	}
	offered := ws.ListElements(r.Header["Sec-Websocket-Protocol"])
	for _, name := range h.Subprotocols {
		if slices.Contains(offered, name) {
			return name
		}
	}
	return ""
}

// setHeader sets the fields of the answer. Their names are spelled as RFC 6455
// has them, for clients that compare letters.
func (a *accepted) setHeader(answer http.Header, r *http.Request) {
	if r.ProtoMajor == 1 {
		answer["Upgrade"] = []string{"websocket"}
		answer["Connection"] = []string{"Upgrade"}
		answer["Sec-WebSocket-Accept"] = []string{handshake.AcceptKey(r.Header.Get("Sec-Websocket-Key"))}
	}
	if a.subprotocol != "" {
		answer["Sec-WebSocket-Protocol"] = []string{a.subprotocol}
	}
	if a.deflate != nil {
		answer["Sec-WebSocket-Extensions"] = []string{a.deflate.String()}
	}
}

// sendAnswer sends the header of a response on HTTP/2 or HTTP/3. If it fails, so does the first
// read.
func sendAnswer(s stream.Stream) {
	if _, err := s.Write(nil); err != nil {
		s.Cut()
	}
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
