package ws

import (
	"errors"

	"github.com/gorilla/websocket"
)

// A scanner follows the frames that pass in one direction of a tunnel. It reads
// nothing but their headers, and the payload of the control frames that it has
// to know about. It takes what the receiver may take, also where RFC 6455 forbids
// to send it: masks left out, lengths longer than they must be.
type Scanner struct {
	Client bool                      // frames are a client's, so they may be masked
	Limit  int64                     // of a message, in bytes; 0: none
	Strict bool                      // what can't be followed is not to pass
	Ours   func(payload []byte) bool // whether a Pong answers one of our pings; nil: none can

	Messages int64 // that have ended
	Bytes    int64 // of messages' payloads that have passed

	data      bool  // the current frame is of a message
	fin       bool  // the current frame is the last of its message
	within    bool  // a message has begun and not ended
	Remaining int64 // what is still to come of the payload of the current frame
	size      int64 // what the current message has so far
	last      bool  // the current frame is a Close frame
	Seen      bool  // there was a frame
	Closed    bool  // a Close frame has passed
	Close     PeerClose
	// broken is what shows that these are no frames, or not where the scanner
	// takes them to be. From then on it follows nothing.
	Broken error
}

// errTooBig is the scanner's word for a message over the limit.
var errTooBig = &CloseError{websocket.CloseMessageTooBig, "message over max_message_size"}

// A scan is what became of some bytes.
type Scanned struct {
	Pass []byte // what passes on
	// boundary is where the last frame that ends in pass does; -1: none does.
	Boundary int
	// held is what can't pass before more is there: the start of a header, of a
	// Close frame, or of what may be the answer to a ping of ours.
	Held []byte
	// err is set when what is held is not to pass, nor what follows it.
	Err *CloseError
}

// pingPayloadLen is the length of the payload of our own Pings, in bytes.
const PingPayloadLen = 8

// maxHeld is the most that is ever held.
const MaxHeld = MaxHeader + MaxControlPayload

// scan takes the bytes that follow those that have passed. It may move what is
// in p, and all that it returns lies in p.
func (s *Scanner) Scan(p []byte) Scanned {
	r := Scanned{Boundary: -1}
	end := 0 // p[:end] passes; it is behind i once a frame has been taken out
	i := 0
	for i < len(p) && s.Broken == nil {
		if s.Remaining > 0 || s.last {
			n := int(min(s.Remaining, int64(len(p)-i)))
			end += s.move(p, end, i, n)
			i += n
			if s.took(n) {
				r.Boundary = end
			}
			continue
		}
		n, whole, err := s.header(p[i:])
		if err != nil && err != errTooBig {
			s.Broken = err
		}
		switch {
		case err == errTooBig, err != nil && s.Strict:
			r.Pass, r.Held, r.Err = p[:end], p[i:], err
			return r
		case err != nil:
		case n == 0:
			r.Pass, r.Held = p[:end], p[i:]
			return r
		case whole: // a Pong to us: taken out
			i += n
		default:
			end += s.move(p, end, i, n)
			i += n
			if s.took(0) {
				r.Boundary = end
			}
		}
	}
	end += s.move(p, end, i, len(p)-i)
	r.Pass = p[:end]
	return r
}

// took counts n bytes of the current frame's payload and reports whether the
// frame ends there.
func (s *Scanner) took(n int) bool {
	s.Remaining -= int64(n)
	if s.data {
		s.Bytes += int64(n)
	}
	if s.Remaining > 0 {
		return false
	}
	if s.data && s.fin {
		s.Messages++
		s.within = false
	}
	s.Closed, s.last = s.Closed || s.last, false
	return true
}

func (s *Scanner) move(p []byte, to, from, n int) int {
	if to != from {
		copy(p[to:], p[from:from+n])
	}
	return n
}

// header looks at the frame that p starts with. It returns the length of what
// has been dealt with: of the header; or, with whole set, of a frame that
// doesn't pass; or 0 if more is needed.
func (s *Scanner) header(p []byte) (n int, whole bool, err *CloseError) {
	h, n, broken := ParseHeader(p)
	if broken != nil || s.check(h, len(p)) != nil {
		err, _ = errors.AsType[*CloseError](firstBreach(p, s.check))
		return 0, false, err
	}
	if n == 0 {
		return 0, false, nil
	}
	s.Seen = true
	s.data, s.fin = !h.Opcode.IsControl(), h.Fin
	if h.Opcode.IsControl() {
		return s.control(h, n, p)
	}
	if !s.within {
		s.size = 0 // a new message within another adds to that
	}
	if s.Limit > 0 && h.Length > s.Limit-s.size {
		return 0, false, errTooBig
	}
	s.within = true
	s.size += h.Length
	s.Remaining = h.Length
	return n, false, nil
}

// check checks that a header of which have bytes are there has no mask unless it
// is a client's.
func (s *Scanner) check(h Header, have int) error {
	if have > 1 && h.Masked && !s.Client {
		return ProtocolError("masked frame from a server")
	}
	return nil
}

// control looks at a control frame, of which the header is n bytes long.
func (s *Scanner) control(h Header, n int, p []byte) (int, bool, *CloseError) {
	wanted := h.Opcode == OpClose ||
		h.Opcode == OpPong && s.Ours != nil && h.Length == PingPayloadLen
	if wanted {
		if len(p) < n+int(h.Length) {
			return 0, false, nil
		}
		var payload [MaxControlPayload]byte
		copy(payload[:], p[n:n+int(h.Length)])
		Mask(payload[:h.Length], h.Mask, 0)
		if h.Opcode == OpPong && s.Ours(payload[:h.Length]) {
			return n + int(h.Length), true, nil
		}
		if h.Opcode == OpClose {
			s.last = true
			s.Close = PeerClose{Code: 1005}
			if closed, ok := errors.AsType[*PeerClose](ParseClose(payload[:h.Length])); ok {
				s.Close = *closed
			}
		}
	}
	s.Remaining = h.Length
	return n, false, nil
}

// withinFrame reports whether what has passed ends within a frame.
func (s *Scanner) WithinFrame() bool { return s.Remaining > 0 || s.Broken != nil }
