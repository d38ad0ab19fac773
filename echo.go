package caddywebsocket

import (
	"cmp"
	"errors"
	"net/http"

	"github.com/gorilla/websocket"

	"github.com/seed-21dbdb71/caddy-websocket/internal/controls"
	"github.com/seed-21dbdb71/caddy-websocket/internal/echo"
	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// accept answers the handshake and begins the session. It returns nil if the client has asked
// for another answer, which it got.
func (s *session) accept(w http.ResponseWriter, r *http.Request) (*echo.Conn, error) {
	subprotocol := ""
	if s.handler.TestControls {
		if answered, err := s.control(w, r); answered || err != nil {
			return nil, err
		}
		if s.asked != nil {
			subprotocol = s.asked.Subprotocol
		}
	}
	a, err := s.handler.accept(w, r, subprotocol)
	if err != nil {
		metrics.refused(s.scopeOf(""), err)
		return nil, err
	}
	script := s.script(r, a)
	c := s.beginEcho(a)
	if c.Script = script; script != nil {
		c.Limit = min(cmp.Or(c.Limit, controls.MaxSize), controls.MaxSize)
	}
	return c, nil
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
		// The timer has begun the closing handshake, or a script.
		if err = c.In.DiscardToClose(); err == nil {
			err = &ws.PeerCloseError{}
		}
	}
	s.closeEcho(c.In, err)
	c.In.Release()
}

// closeEcho ends the socket because of err and completes the closing handshake as far as
// possible (RFC 6455 §7), and as the client has not asked for the contrary.
func (s *session) closeEcho(in *ws.Reader, err error) {
	end, _ := s.end(s.endingOf(err))
	_, clientClosed := errors.AsType[*ws.PeerCloseError](err)
	if end.code == closeNone || clientClosed && s.asked != nil && s.asked.NeverReply {
		return
	}
	_ = s.out.Control(ws.OpClose, end.payload()) // fails if the timer has already sent one
	if end.code == websocket.CloseMessageTooBig || end.code == websocket.ClosePolicyViolation {
		// The client has not violated RFC 6455, so it can answer our Close frame.
		_ = in.DiscardToClose()
	}
	if s.stream.CloseWrite(clientClosed) {
		in.Drain()
	}
}
