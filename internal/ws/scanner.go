package ws

import (
	"errors"

	"github.com/gorilla/websocket"
)

// A Scanner follows the frames in one direction of a tunnel. It parses only their
// headers, and the payloads of Close frames and of Pongs that may be ours. It accepts
// what a lenient peer may accept, even where RFC 6455 forbids sending it: unmasked
// frames from a client, and lengths not in their shortest form.
//
// The exported fields of the first group configure a Scanner; the others are its
// results and are only read.
type Scanner struct {
	// Client is set if the frames are a client's, so that they may be masked.
	Client bool
	// Limit is the longest message that passes, in payload bytes. 0 means no limit.
	Limit int64
	// Strict is set if bytes that can't be followed must not pass.
	Strict bool
	// Ours reports whether a Pong with this payload of PingPayloadLen bytes answers
	// one of our Pings, and is to be taken out. With nil, all Pongs pass.
	Ours func(payload []byte) bool

	Messages  int64          // the number of messages that have passed
	Bytes     int64          // the number of message payload bytes that have passed
	Remaining int64          // the payload bytes of the current frame that are yet to pass
	Seen      bool           // a valid frame header has been parsed
	Closed    bool           // a Close frame has passed
	Close     PeerCloseError // the contents of the Close frame, once it has been received
	// Broken is the error that shows that these bytes are not frames, or that they
	// don't begin where they were expected. All that follows passes without being
	// parsed, unless Strict is set.
	Broken error

	inData    bool  // the current frame is a data frame
	fin       bool  // the current frame is the last of its message
	inMessage bool  // a message has begun and not ended
	size      int64 // the payload bytes of the current message so far
	closing   bool  // the current frame is a Close frame
}

var errTooBig = &CloseError{websocket.CloseMessageTooBig, "message over max_message_size"}

// Scanned is the result of a call to [Scanner.Scan].
type Scanned struct {
	// Pass is the part that passes.
	Pass []byte
	// Boundary is the offset in Pass at which the last complete frame ends, or -1 if
	// none ends there.
	Boundary int
	// Held is the part that can't pass before more bytes are there: an incomplete
	// header, Close frame, or Pong that may be ours. The caller passes it to the next
	// Scan, followed by those bytes. It is at most MaxHeld bytes long unless Err is
	// set.
	Held []byte
	// Err is set if neither Held nor anything after it may pass.
	Err *CloseError
}

// PingPayloadLen is the length of the payload of our Pings, in bytes.
const PingPayloadLen = 8

// MaxHeld is the most that a Scanner holds back, in bytes.
const MaxHeld = MaxHeader + MaxControlPayload

// Scan scans the bytes that follow those that have passed. It may move bytes within
// p, and the slices that it returns are parts of p.
func (s *Scanner) Scan(p []byte) (r Scanned) {
	r.Boundary = -1
	end := 0 // p[:end] passes; it is less than i once a Pong has been taken out
	i := 0
	for i < len(p) && s.Broken == nil {
		if s.Remaining > 0 || s.closing {
			n := int(min(s.Remaining, int64(len(p)-i)))
			end += s.move(p, end, i, n)
			i += n
			if s.advance(n) {
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
		case whole: // a Pong that answers our Ping: taken out
			i += n
		default:
			end += s.move(p, end, i, n)
			i += n
			if s.advance(0) {
				r.Boundary = end
			}
		}
	}
	end += s.move(p, end, i, len(p)-i)
	r.Pass = p[:end]
	return r
}

// advance counts n bytes of the current frame's payload as passed and reports whether
// the frame ends with them.
func (s *Scanner) advance(n int) bool {
	s.Remaining -= int64(n)
	if s.inData {
		s.Bytes += int64(n)
	}
	if s.Remaining > 0 {
		return false
	}
	if s.inData && s.fin {
		s.Messages++
		s.inMessage = false
	}
	s.Closed, s.closing = s.Closed || s.closing, false
	return true
}

// move moves n bytes of p and returns n.
func (s *Scanner) move(p []byte, to, from, n int) int {
	if to != from {
		copy(p[to:], p[from:from+n])
	}
	return n
}

// header parses the header at the start of p and returns its length; or, with whole
// set, the length of a frame that doesn't pass; or 0 if more bytes are needed.
func (s *Scanner) header(p []byte) (n int, whole bool, err *CloseError) {
	var h Header
	n, broken := h.parse(p)
	if broken != nil || s.check(h, len(p)) != nil {
		err, _ = errors.AsType[*CloseError](firstViolation(p, s.check))
		return 0, false, err
	}
	if n == 0 {
		return 0, false, nil
	}
	s.Seen = true
	s.inData, s.fin = !h.Opcode.IsControl(), h.Fin
	if h.Opcode.IsControl() {
		return s.control(h, n, p)
	}
	if !s.inMessage {
		s.size = 0 // a new message within another adds to its size
	}
	if s.Limit > 0 && h.Length > s.Limit-s.size {
		return 0, false, errTooBig
	}
	s.inMessage = true
	s.size += h.Length
	s.Remaining = h.Length
	return n, false, nil
}

// check checks that a header, of which have bytes have been parsed, is not masked
// unless it is a client's.
func (s *Scanner) check(h Header, have int) error {
	if have > 1 && h.Masked && !s.Client {
		return protocolError("masked frame from a server")
	}
	return nil
}

// control parses the control frame at the start of p, whose header h is n bytes long.
// It returns what header returns.
func (s *Scanner) control(h Header, n int, p []byte) (int, bool, *CloseError) {
	parsed := h.Opcode == OpClose ||
		h.Opcode == OpPong && s.Ours != nil && h.Length == PingPayloadLen
	if parsed {
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
			s.closing = true
			s.Close = closeAsSent(payload[:h.Length])
		}
	}
	s.Remaining = h.Length
	return n, false, nil
}

// WithinFrame reports whether the bytes that have passed end within a frame, or may do
// so since the stream is broken.
func (s *Scanner) WithinFrame() bool { return s.Remaining > 0 || s.Broken != nil }
