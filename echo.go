package caddywebsocket

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/gorilla/websocket"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// An echo sends every message back with the same type and the same bytes.
type echo struct {
	*session
	in    *ws.Reader
	limit int64    // the longest message, in bytes; 0: no limit
	reply outgoing // the reply to the current message in long or deflated
}

func newEcho(s *session, deflate bool) *echo {
	return &echo{
		session: s,
		limit:   s.handler.MaxMessageSize,
		in:      ws.NewReader(s.stream, &s.keepalive.Keepalive, s.handler.buffers, s.out.Flush, deflate),
	}
}

// accept answers the handshake and begins the session.
func (s *session) accept(w http.ResponseWriter, r *http.Request) (*echo, error) {
	a, err := s.handler.accept(w, r)
	if err != nil {
		metrics.refused(s.scopeOf(""), err)
		return nil, err
	}
	return s.beginEcho(a), nil
}

// beginEcho begins the session of a socket that has been accepted.
func (s *session) beginEcho(a *accepted) *echo {
	s.agreement.Store(&agreement{a.subprotocol, a.deflate})
	s.begin(a.stream)
	return newEcho(s, a.deflate)
}

// serve echoes until the socket has closed.
func (e *echo) serve() {
	err := e.messages()
	if errors.Is(err, ws.ErrCloseSent) {
		// The timer has begun the closing handshake.
		if err = e.in.DiscardToClose(); err == nil {
			err = &ws.PeerCloseError{}
		}
	}
	e.close(err)
	e.in.Release()
}

// messages echoes messages until an error ends the socket, and returns that.
func (e *echo) messages() error {
	for {
		h, n, err := e.nextData()
		if err != nil {
			return err
		}
		switch {
		case h.RSV == ws.RSV1Bit:
			err = e.deflated(h, n)
		case h.Fin && e.in.Fits(h, n):
			err = e.short(h, n)
		default:
			err = e.long(h, n)
		}
		if err != nil {
			return err
		}
	}
}

// nextData returns the header of the next data frame and its length. It answers the
// control frames before it.
func (e *echo) nextData() (ws.Header, int, error) {
	for {
		h, n, err := e.in.NextHeader()
		if err != nil || !h.Opcode.IsControl() {
			return h, n, err
		}
		payload, err := e.in.PeekPayload(h, n, nil)
		if err != nil {
			return h, n, err
		}
		switch h.Opcode {
		case ws.OpClose:
			return h, n, ws.ParseClose(payload)
		case ws.OpPing:
			err = e.sendBack(ws.FinBit|byte(ws.OpPong), n, len(payload))
		default: // a Pong
			e.pong(payload)
			e.in.Skip(n + len(payload))
		}
		if err != nil {
			return h, n, err
		}
	}
}

// checkSize checks that a message of size bytes may grow by more bytes.
func (e *echo) checkSize(size, more int64) error {
	if e.limit > 0 && more > e.limit-size {
		return &ws.CloseError{Code: websocket.CloseMessageTooBig, Reason: fmt.Sprintf("message of more than %d bytes", e.limit)}
	}
	return nil
}

// short echoes a message that consists of one frame and fits in the receive buffer.
func (e *echo) short(h ws.Header, n int) error {
	if err := e.checkSize(0, h.Length); err != nil {
		return err
	}
	text := ws.NewTextChecker(h.Opcode)
	payload, err := e.in.PeekPayload(h, n, text)
	if err != nil {
		return err
	}
	if text != nil && !text.Complete() {
		return ws.ErrInvalidUTF8
	}
	e.received.add(1, len(payload))
	e.sent.add(1, len(payload))
	return e.sendBack(ws.FinBit|byte(h.Opcode), n, len(payload))
}

// sendBack sends the frame that is in the receive buffer back without copying it.
func (e *echo) sendBack(firstByte byte, n, size int) error {
	frame := e.in.Reply(firstByte, n, size)
	return e.out.Send(frame, e.in.More())
}

// long echoes a message that has several frames or doesn't fit in the receive buffer: in
// one frame if it is no longer than ws.BlockPayload, else in several.
func (e *echo) long(h ws.Header, n int) error {
	m := e.beginReply(byte(h.Opcode))
	defer m.Release()
	text := ws.NewTextChecker(h.Opcode)
	var size int64
	for {
		if err := e.checkSize(size, h.Length); err != nil {
			return err
		}
		size += h.Length
		e.in.BeginPayload(h, n)
		for e.in.Remaining > 0 {
			room, err := m.room()
			if err != nil {
				return err
			}
			k, err := e.in.ReadPayload(room)
			if err != nil {
				return err
			}
			if text != nil && !text.Write(room[:k]) {
				return ws.ErrInvalidUTF8
			}
			m.N += k
			m.countReceived(k)
		}
		if h.Fin {
			break
		}
		var err error
		if h, n, err = e.nextData(); err != nil {
			return err
		}
	}
	if text != nil && !text.Complete() {
		return ws.ErrInvalidUTF8
	}
	e.received.add(1, 0)
	return m.send(ws.FinBit)
}

// close ends the socket because of err and completes the closing handshake as far as
// possible (RFC 6455 §7).
func (e *echo) close(err error) {
	end, _ := e.end(e.endingOf(err))
	if end.code == closeNone {
		return
	}
	_ = e.out.Control(ws.OpClose, end.payload()) // fails if the timer has already sent one
	if end.code == websocket.CloseMessageTooBig || end.code == websocket.ClosePolicyViolation {
		// The client has not violated RFC 6455, so it can answer our Close frame.
		_ = e.in.DiscardToClose()
	}
	_, clientClosed := errors.AsType[*ws.PeerCloseError](err)
	if e.stream.CloseWrite(clientClosed) {
		e.in.Drain()
	}
}
