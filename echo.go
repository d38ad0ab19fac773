package caddywebsocket

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/gorilla/websocket"
)

// An echo sends every message back as it came: the same type, the same bytes.
type echo struct {
	*session
	in    *receiver
	limit int64    // of a message, in bytes; 0: none
	reply outgoing // the message that long or deflated is at
}

func newEcho(s *session, deflate bool) *echo {
	return &echo{
		session: s,
		limit:   s.handler.MaxMessageSize,
		in:      newReceiver(s.stream, &s.keepalive, s.handler.buffers, s.out.flush, deflate),
	}
}

// accept answers the handshake and begins the session.
func (s *session) accept(w http.ResponseWriter, r *http.Request) (*echo, error) {
	a, err := s.handler.accept(w, r)
	if err != nil {
		metrics.refused(s.handler.Mode, err)
		return nil, err
	}
	return s.beginEcho(a), nil
}

// beginEcho begins the session of an accepted socket.
func (s *session) beginEcho(a *accepted) *echo {
	s.agreement.Store(&agreement{a.subprotocol, a.deflate})
	s.begin(a.stream)
	return newEcho(s, a.deflate)
}

// serve echoes until the socket has closed.
func (e *echo) serve() {
	err := e.messages()
	if errors.Is(err, errCloseSent) {
		// The timer has begun the closing handshake.
		if err = e.in.discard(); err == nil {
			err = &peerCloseError{}
		}
	}
	e.close(err)
	e.in.release()
}

// messages echoes until err says why it can't go on.
func (e *echo) messages() error {
	for {
		h, n, err := e.nextData()
		if err != nil {
			return err
		}
		switch {
		case h.rsv == rsv1Bit:
			err = e.deflated(h, n)
		case h.fin && e.in.fits(h, n):
			err = e.short(h, n)
		default:
			err = e.long(h, n)
		}
		if err != nil {
			return err
		}
	}
}

// nextData receives the header of the next frame of a message, and answers the
// control frames before it.
func (e *echo) nextData() (frameHeader, int, error) {
	for {
		h, n, err := e.in.next()
		if err != nil || !h.opcode.isControl() {
			return h, n, err
		}
		payload, err := e.in.whole(h, n, nil)
		if err != nil {
			return h, n, err
		}
		switch h.opcode {
		case opClose:
			return h, n, parseClose(payload)
		case opPing:
			err = e.sendBack(finBit|byte(opPong), n, len(payload))
		default: // a Pong
			e.pong(payload)
			e.in.skip(n + len(payload))
		}
		if err != nil {
			return h, n, err
		}
	}
}

// checkSize checks that a message of size bytes may have more.
func (e *echo) checkSize(size, more int64) error {
	if e.limit > 0 && more > e.limit-size {
		return &closeError{websocket.CloseMessageTooBig, fmt.Sprintf("message of more than %d bytes", e.limit)}
	}
	return nil
}

// short echoes a message that is one frame and fits in the receive buffer.
func (e *echo) short(h frameHeader, n int) error {
	if err := e.checkSize(0, h.length); err != nil {
		return err
	}
	text := textChecker(h.opcode)
	payload, err := e.in.whole(h, n, text)
	if err != nil {
		return err
	}
	if text != nil && !text.complete() {
		return errInvalidUTF8
	}
	e.received.add(1, len(payload))
	e.sent.add(1, len(payload))
	return e.sendBack(finBit|byte(h.opcode), n, len(payload))
}

// sendBack sends the frame that lies unread in the receive buffer back from where
// it lies.
func (e *echo) sendBack(first byte, n, size int) error {
	frame := e.in.reply(first, n, size)
	return e.out.send(frame, e.in.more())
}

// long echoes a message of many frames or of one that is too long for the
// receive buffer: in one frame if it is no longer than maxEchoFrame, else in
// several.
func (e *echo) long(h frameHeader, n int) error {
	m := e.begin(byte(h.opcode))
	defer m.release()
	text := textChecker(h.opcode)
	var size int64
	for {
		if err := e.checkSize(size, h.length); err != nil {
			return err
		}
		size += h.length
		e.in.begin(h, n)
		for e.in.remaining > 0 {
			room, err := m.room()
			if err != nil {
				return err
			}
			k, err := e.in.payload(room)
			if err != nil {
				return err
			}
			if text != nil && !text.write(room[:k]) {
				return errInvalidUTF8
			}
			m.n += k
			m.took(k)
		}
		if h.fin {
			break
		}
		var err error
		if h, n, err = e.nextData(); err != nil {
			return err
		}
	}
	if text != nil && !text.complete() {
		return errInvalidUTF8
	}
	e.received.add(1, 0)
	return m.send(finBit)
}

// close ends the socket after err, with what of the closing handshake is left
// to do (RFC 6455 §7).
func (e *echo) close(err error) {
	end, _ := e.end(e.endingOf(err))
	if end.code == closeNone {
		return
	}
	_ = e.out.control(opClose, end.payload()) // unless the timer has
	if end.code == websocket.CloseMessageTooBig {
		// The client broke no rule of RFC 6455, so it may say its part.
		_ = e.in.discard()
	}
	_, clientClosed := errors.AsType[*peerCloseError](err)
	if e.stream.hangUp(clientClosed) {
		e.in.drain()
	}
}
