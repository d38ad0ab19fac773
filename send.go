package caddywebsocket

import (
	"encoding/binary"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
)

var (
	// errCloseSent is the answer to a frame that comes after a Close frame.
	errCloseSent = errors.New("close frame sent")
	// errSessionOver is the answer to one that comes after the session.
	errSessionOver = errors.New("session over")
)

// A writeError is that of a write to a stream, as against a read.
type writeError struct{ err error }

func (e *writeError) Error() string { return "writing: " + e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

// corkSize is how much may gather before it is sent.
const corkSize = 16 << 10

var corks = &bufferPool{size: corkSize}

// A sender writes frames, each in one piece: its own, or those of another that
// it passes on as they come. Small ones of its own gather (are corked) until
// flush, so that replies to messages that came in together leave in one system
// call.
type sender struct {
	out    io.Writer
	life   *keepalive    // notes what is sent; nil for none
	ping   func() []byte // makes the payload of a Ping when its turn has come
	masked bool          // frames are a client's

	mu        sync.Mutex // guards out's writes and all of the following
	cork      *buffer    // complete frames; nil while there are none
	open      bool       // what was passed on ends within a frame
	closeSent bool
	err       error // of the first write that failed

	// due is a control frame that another goroutine wants sent. It doesn't wait
	// for mu, which a slow peer can keep held for write_timeout: whoever holds mu
	// sends it before letting go, or when the frame that is open has ended.
	due atomic.Pointer[controlFrame]
}

type controlFrame struct {
	opcode  opcode
	payload []byte
}

// send writes a whole frame, header included, or corks it if more is about to
// follow. The frame's bytes are the caller's again when it returns.
func (s *sender) send(frame []byte, more bool) error {
	s.mu.Lock()
	defer s.unlock()
	if err := s.ready(); err != nil {
		return err
	}
	if !more && s.cork == nil || len(frame) > corkSize/2 {
		if err := s.flushLocked(); err != nil {
			return err
		}
		return s.write(frame)
	}
	if s.cork != nil && len(s.cork.p)+len(frame) > corkSize {
		if err := s.flushLocked(); err != nil {
			return err
		}
	}
	if s.cork == nil {
		s.cork = corks.get()
		s.cork.p = s.cork.p[:0]
	}
	s.cork.p = append(s.cork.p, frame...)
	return nil
}

// flush sends what has gathered.
func (s *sender) flush() error {
	s.mu.Lock()
	defer s.unlock()
	return s.flushLocked()
}

// control sends a control frame and everything before it.
func (s *sender) control(opcode opcode, payload []byte) error {
	s.mu.Lock()
	defer s.unlock()
	return s.controlLocked(controlFrame{opcode, payload})
}

// pass writes bytes of someone else's frames, which end within a frame if open
// is set and with a Close frame if closed is.
func (s *sender) pass(p []byte, open, closed bool) error {
	s.mu.Lock()
	defer s.unlock()
	if err := s.ready(); err != nil {
		return err
	}
	s.open, s.closeSent = open, closed
	return s.write(p)
}

// post has a control frame sent between two others without ever waiting for
// one of the handler's writes. A Close replaces what is still due.
func (s *sender) post(opcode opcode, payload []byte) {
	f := &controlFrame{opcode, payload}
	if opcode == opClose {
		s.due.Store(f)
	} else if !s.due.CompareAndSwap(nil, f) {
		return
	}
	if s.mu.TryLock() {
		s.unlock()
	}
}

// failure is the error of a write that has failed, if none is under way.
func (s *sender) failure() error {
	if !s.mu.TryLock() {
		return nil
	}
	defer s.unlock()
	return s.err
}

// unlock sends what is due before it lets go.
func (s *sender) unlock() {
	for {
		open := s.unlockOnce()
		if open || s.due.Load() == nil || !s.mu.TryLock() {
			return
		}
	}
}

// unlockOnce sends what is due, unless a frame is open, which it reports, and lets
// go even if that panics.
func (s *sender) unlockOnce() (open bool) {
	defer s.mu.Unlock()
	if s.open {
		return true
	}
	if f := s.due.Swap(nil); f != nil {
		_ = s.controlLocked(*f) // an error stays with the sender
	}
	return false
}

func (s *sender) ready() error {
	if s.err == nil && s.closeSent {
		return errCloseSent
	}
	return s.err
}

func (s *sender) controlLocked(f controlFrame) error {
	if err := s.ready(); err != nil {
		return err
	}
	if err := s.flushLocked(); err != nil {
		return err
	}
	if f.opcode == opPing && f.payload == nil {
		f.payload = s.ping()
	}
	s.closeSent = f.opcode == opClose
	frame := make([]byte, 0, 2+4+maxControlPayload)
	frame = appendFrameHeader(frame, finBit|byte(f.opcode), len(f.payload))
	if s.masked {
		var key [4]byte
		binary.NativeEndian.PutUint32(key[:], mathrand.Uint32())
		frame[1] |= maskBit
		frame = append(frame, key[:]...)
		frame = append(frame, f.payload...)
		unmask(frame[6:], key, 0)
		return s.write(frame)
	}
	err := s.write(append(frame, f.payload...))
	if f.opcode == opPing && err == nil {
		s.life.pinged()
	}
	return err
}

func (s *sender) flushLocked() error {
	if s.cork == nil {
		return s.err
	}
	cork := s.cork
	s.cork = nil
	defer corks.put(cork)
	return s.write(cork.p)
}

func (s *sender) write(p []byte) error {
	if s.err != nil {
		return s.err
	}
	if s.life != nil {
		s.life.send()
	}
	if _, err := s.out.Write(p); err != nil {
		s.err = &writeError{err}
	}
	if s.life != nil {
		s.life.sent()
	}
	return s.err
}
