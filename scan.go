package caddywebsocket

import (
	"errors"

	"github.com/gorilla/websocket"
)

// A scanner follows the frames that pass in one direction of a tunnel. It reads
// nothing but their headers, and the payload of the control frames that it has
// to know about. It takes what the receiver may take, also where RFC 6455 forbids
// to send it: masks left out, lengths longer than they must be.
type scanner struct {
	client bool                      // frames are a client's, so they may be masked
	limit  int64                     // of a message, in bytes; 0: none
	strict bool                      // what can't be followed is not to pass
	ours   func(payload []byte) bool // whether a Pong answers one of our pings; nil: none can

	messages int64 // that have ended
	bytes    int64 // of messages' payloads that have passed

	data      bool  // the current frame is of a message
	fin       bool  // the current frame is the last of its message
	within    bool  // a message has begun and not ended
	remaining int64 // what is still to come of the payload of the current frame
	size      int64 // what the current message has so far
	last      bool  // the current frame is a Close frame
	seen      bool  // there was a frame
	closed    bool  // a Close frame has passed
	close     peerCloseError
	// broken is what shows that these are no frames, or not where the scanner
	// takes them to be. From then on it follows nothing.
	broken error
}

// errTooBig is the scanner's word for a message over the limit.
var errTooBig = &closeError{websocket.CloseMessageTooBig, "message over max_message_size"}

// A scan is what became of some bytes.
type scan struct {
	pass []byte // what passes on
	// boundary is where the last frame that ends in pass does; -1: none does.
	boundary int
	// held is what can't pass before more is there: the start of a header, of a
	// Close frame, or of what may be the answer to a ping of ours.
	held []byte
	// err is set when what is held is not to pass, nor what follows it.
	err *closeError
}

// pingPayloadLen is the length of the payload of our own Pings, in bytes.
const pingPayloadLen = 8

// maxHeld is the most that is ever held.
const maxHeld = maxFrameHeader + maxControlPayload

// scan takes the bytes that follow those that have passed. It may move what is
// in p, and all that it returns lies in p.
func (s *scanner) scan(p []byte) scan {
	r := scan{boundary: -1}
	end := 0 // p[:end] passes; it is behind i once a frame has been taken out
	i := 0
	for i < len(p) && s.broken == nil {
		if s.remaining > 0 || s.last {
			n := int(min(s.remaining, int64(len(p)-i)))
			end += s.move(p, end, i, n)
			i += n
			if s.took(n) {
				r.boundary = end
			}
			continue
		}
		n, whole, err := s.header(p[i:])
		if err != nil && err != errTooBig {
			s.broken = err
		}
		switch {
		case err == errTooBig, err != nil && s.strict:
			r.pass, r.held, r.err = p[:end], p[i:], err
			return r
		case err != nil:
		case n == 0:
			r.pass, r.held = p[:end], p[i:]
			return r
		case whole: // a Pong to us: taken out
			i += n
		default:
			end += s.move(p, end, i, n)
			i += n
			if s.took(0) {
				r.boundary = end
			}
		}
	}
	end += s.move(p, end, i, len(p)-i)
	r.pass = p[:end]
	return r
}

// took counts n bytes of the current frame's payload and reports whether the
// frame ends there.
func (s *scanner) took(n int) bool {
	s.remaining -= int64(n)
	if s.data {
		s.bytes += int64(n)
	}
	if s.remaining > 0 {
		return false
	}
	if s.data && s.fin {
		s.messages++
		s.within = false
	}
	s.closed, s.last = s.closed || s.last, false
	return true
}

func (s *scanner) move(p []byte, to, from, n int) int {
	if to != from {
		copy(p[to:], p[from:from+n])
	}
	return n
}

// header looks at the frame that p starts with. It returns the length of what
// has been dealt with: of the header; or, with whole set, of a frame that
// doesn't pass; or 0 if more is needed.
func (s *scanner) header(p []byte) (n int, whole bool, err *closeError) {
	h, n, broken := parseFrameHeader(p)
	if broken != nil || s.check(h, len(p)) != nil {
		err, _ = errors.AsType[*closeError](firstBreach(p, s.check))
		return 0, false, err
	}
	if n == 0 {
		return 0, false, nil
	}
	s.seen = true
	s.data, s.fin = !h.opcode.isControl(), h.fin
	if h.opcode.isControl() {
		return s.control(h, n, p)
	}
	if !s.within {
		s.size = 0 // a new message within another adds to that
	}
	if s.limit > 0 && h.length > s.limit-s.size {
		return 0, false, errTooBig
	}
	s.within = true
	s.size += h.length
	s.remaining = h.length
	return n, false, nil
}

// check checks that a header of which have bytes are there has no mask unless it
// is a client's.
func (s *scanner) check(h frameHeader, have int) error {
	if have > 1 && h.masked && !s.client {
		return protocolError("masked frame from a server")
	}
	return nil
}

// control looks at a control frame, of which the header is n bytes long.
func (s *scanner) control(h frameHeader, n int, p []byte) (int, bool, *closeError) {
	wanted := h.opcode == opClose ||
		h.opcode == opPong && s.ours != nil && h.length == pingPayloadLen
	if wanted {
		if len(p) < n+int(h.length) {
			return 0, false, nil
		}
		var payload [maxControlPayload]byte
		copy(payload[:], p[n:n+int(h.length)])
		unmask(payload[:h.length], h.mask, 0)
		if h.opcode == opPong && s.ours(payload[:h.length]) {
			return n + int(h.length), true, nil
		}
		if h.opcode == opClose {
			s.last = true
			s.close = peerCloseError{code: 1005}
			if closed, ok := errors.AsType[*peerCloseError](parseClose(payload[:h.length])); ok {
				s.close = *closed
			}
		}
	}
	s.remaining = h.length
	return n, false, nil
}

// withinFrame reports whether what has passed ends within a frame.
func (s *scanner) withinFrame() bool { return s.remaining > 0 || s.broken != nil }
