package caddywebsocket

import (
	"bytes"
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

var corks = newBufferPool(corkSize)

// A sender writes frames, each in one piece: its own, or those of another that
// it passes on as they come. Small ones of its own gather (are corked) until
// flush, so that replies to messages that came in together leave in one system
// call.
type sender struct {
	mu          sync.Mutex // guards all of the following but posted, and writes to out
	out         io.Writer
	masked      bool          // frames are a client's
	keepalive   *keepalive    // notes what is sent; nil for none
	ping        func() []byte // makes the payload of a Ping when its turn has come
	onClose     func()        // is called when a Close frame of ours was sent; nil for none
	cork        *buffer       // complete frames; nil while there are none
	withinFrame bool          // what was passed on ends within a frame
	closeSent   bool
	err         error // of the first write that failed

	// posted is a control frame that another goroutine wants sent. It doesn't wait
	// for mu, which a slow peer can keep held for write_timeout: whoever holds mu
	// sends it before letting go, or when the frame that is being passed on has ended.
	posted atomic.Pointer[controlFrame]
}

// begin has the sender send to a client.
func (s *sender) begin(client io.Writer, k *keepalive, ping func() []byte, onClose func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out, s.keepalive, s.ping, s.onClose = client, k, ping, onClose
}

// beginApp has the sender send to an application, as a client does.
func (s *sender) beginApp(app io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out, s.masked = app, true
}

// appendClientClose appends a client's Close frame.
func appendClientClose(p, payload []byte) []byte {
	b := bytes.NewBuffer(p)
	s := sender{out: b, masked: true}
	_ = s.control(opClose, payload)
	return b.Bytes()
}

// hold holds control frames back until something was passed on.
func (s *sender) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.withinFrame = true
}

// exclusively calls f while nothing is written.
func (s *sender) exclusively(f func() error) error {
	s.mu.Lock()
	defer s.unlock()
	return f()
}

// end has everything fail that is still to be sent. A write that is under way is
// unblocked by cut.
func (s *sender) end(cut func()) {
	if !s.mu.TryLock() {
		cut()
		s.mu.Lock()
	}
	defer s.mu.Unlock()
	s.err = errSessionOver
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

// pass writes bytes of someone else's frames, which end within a frame if
// withinFrame is set and with a Close frame if closed is.
func (s *sender) pass(p []byte, withinFrame, closed bool) error {
	s.mu.Lock()
	defer s.unlock()
	if err := s.ready(); err != nil {
		return err
	}
	s.withinFrame, s.closeSent = withinFrame, closed
	return s.write(p)
}

// post has a control frame sent between two others without ever waiting for
// one of the handler's writes. A Close replaces what was posted before.
func (s *sender) post(opcode opcode, payload []byte) {
	f := &controlFrame{opcode, payload}
	if opcode == opClose {
		s.posted.Store(f)
	} else if !s.posted.CompareAndSwap(nil, f) {
		return
	}
	if s.mu.TryLock() {
		s.unlock()
	}
}

// waiting reports whether a posted frame waits for its turn.
func (s *sender) waiting() bool { return s.posted.Load() != nil }

// failure is the error of a write that has failed, if none is under way.
func (s *sender) failure() error {
	if !s.mu.TryLock() {
		return nil
	}
	defer s.unlock()
	return s.err
}

// unlock sends what was posted before it lets go.
func (s *sender) unlock() {
	for {
		withinFrame := s.unlockOnce()
		if withinFrame || s.posted.Load() == nil || !s.mu.TryLock() {
			return
		}
	}
}

// unlockOnce sends what was posted, unless that would be within a frame, which it
// reports, and lets go even if that panics.
func (s *sender) unlockOnce() (withinFrame bool) {
	defer s.mu.Unlock()
	if s.withinFrame {
		return true
	}
	if f := s.posted.Swap(nil); f != nil {
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
	switch {
	case err != nil:
	case f.opcode == opPing:
		s.keepalive.pinged()
	case f.opcode == opClose && s.onClose != nil:
		s.onClose()
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
	if s.keepalive != nil {
		s.keepalive.send()
	}
	if _, err := s.out.Write(p); err != nil {
		s.err = &writeError{err}
	}
	if s.keepalive != nil {
		s.keepalive.sent()
	}
	return s.err
}
