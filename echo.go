package caddywebsocket

import (
	"errors"
	"net/http"

	"github.com/gorilla/websocket"

	"github.com/seed-21dbdb71/caddy-websocket/internal/echo"
	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// accept answers the handshake and begins the session.
func (s *session) accept(w http.ResponseWriter, r *http.Request) (*echo.Conn, error) {
	a, err := s.handler.accept(w, r)
	if err != nil {
		metrics.refused(s.scopeOf(""), err)
		return nil, err
	}
	return s.beginEcho(a), nil
}

// beginEcho begins the session of a socket that has been accepted.
func (s *session) beginEcho(a *accepted) *echo.Conn {
	s.agreement.Store(&agreement{a.subprotocol, a.deflate != nil})
	s.begin(a.stream)
	return &echo.Conn{
		In:       ws.NewReader(s.stream, &s.keepalive.Keepalive, s.handler.buffers, s.out.Flush, a.deflate != nil),
		Out:      &s.out,
		Buffers:  s.handler.buffers,
		Limit:    s.handler.MaxMessageSize,
		Deflate:  a.deflate,
		Pong:     func(payload []byte) { s.pong(payload) },
		Received: &s.received,
		Sent:     &s.sent,
	}
}

// echo sends messages back until the socket has closed.
func (s *session) echo(c *echo.Conn) {
	err := c.Messages()
	if errors.Is(err, ws.ErrCloseSent) {
		// The timer has begun the closing handshake.
		if err = c.In.DiscardToClose(); err == nil {
			err = &ws.PeerCloseError{}
		}
	}
	s.closeEcho(c.In, err)
	c.In.Release()
}

// closeEcho ends the socket because of err and completes the closing handshake as far as
// possible (RFC 6455 §7).
func (s *session) closeEcho(in *ws.Reader, err error) {
	end, _ := s.end(s.endingOf(err))
	if end.code == closeNone {
		return
	}
	_ = s.out.Control(ws.OpClose, end.payload()) // fails if the timer has already sent one
	if end.code == websocket.CloseMessageTooBig || end.code == websocket.ClosePolicyViolation {
		// The client has not violated RFC 6455, so it can answer our Close frame.
		_ = in.DiscardToClose()
	}
	_, clientClosed := errors.AsType[*ws.PeerCloseError](err)
	if s.stream.CloseWrite(clientClosed) {
		in.Drain()
	}
}
