package ws

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
	ErrCloseSent = errors.New("close frame sent")
	// errSessionOver is the answer to one that comes after the session.
	errSessionOver = errors.New("session over")
)

// A writeError is that of a write to a stream, as against a read.
type WriteError struct{ Err error }

func (e *WriteError) Error() string { return "writing: " + e.Err.Error() }
func (e *WriteError) Unwrap() error { return e.Err }

// corkSize is how much may gather before it is sent.
const corkSize = 16 << 10

var corks = NewBufferPool(corkSize)

// A sender writes frames, each in one piece: its own, or those of another that
// it passes on as they come. Small ones of its own gather (are corked) until
// flush, so that replies to messages that came in together leave in one system
// call.
type Writer struct {
	mu          sync.Mutex // guards all of the following but posted, and writes to out
	out         io.Writer
	masked      bool          // frames are a client's
	keepalive   *Keepalive    // notes what is sent; nil for none
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
func (s *Writer) Begin(client io.Writer, k *Keepalive, ping func() []byte, onClose func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out, s.keepalive, s.ping, s.onClose = client, k, ping, onClose
}

// beginApp has the sender send to an application, as a client does.
func (s *Writer) BeginApp(app io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out, s.masked = app, true
}

// appendClientClose appends a client's Close frame.
func AppendClientClose(p, payload []byte) []byte {
	b := bytes.NewBuffer(p)
	s := Writer{out: b, masked: true}
	_ = s.Control(OpClose, payload)
	return b.Bytes()
}

// hold holds control frames back until something was passed on.
func (s *Writer) Hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.withinFrame = true
}

// exclusively calls f while nothing is written.
func (s *Writer) Exclusively(f func() error) error {
	s.mu.Lock()
	defer s.unlock()
	return f()
}

// end has everything fail that is still to be sent. A write that is under way is
// unblocked by cut.
func (s *Writer) End(cut func()) {
	if !s.mu.TryLock() {
		cut()
		s.mu.Lock()
	}
	defer s.mu.Unlock()
	s.err = errSessionOver
}

type controlFrame struct {
	opcode  Opcode
	payload []byte
}

// send writes a whole frame, header included, or corks it if more is about to
// follow. The frame's bytes are the caller's again when it returns.
func (s *Writer) Send(frame []byte, more bool) error {
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
	if s.cork != nil && len(s.cork.P)+len(frame) > corkSize {
		if err := s.flushLocked(); err != nil {
			return err
		}
	}
	if s.cork == nil {
		s.cork = corks.Get()
		s.cork.P = s.cork.P[:0]
	}
	s.cork.P = append(s.cork.P, frame...)
	return nil
}

// flush sends what has gathered.
func (s *Writer) Flush() error {
	s.mu.Lock()
	defer s.unlock()
	return s.flushLocked()
}

// control sends a control frame and everything before it.
func (s *Writer) Control(opcode Opcode, payload []byte) error {
	s.mu.Lock()
	defer s.unlock()
	return s.controlLocked(controlFrame{opcode, payload})
}

// pass writes bytes of someone else's frames, which end within a frame if
// withinFrame is set and with a Close frame if closed is.
func (s *Writer) Pass(p []byte, withinFrame, closed bool) error {
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
func (s *Writer) Post(opcode Opcode, payload []byte) {
	f := &controlFrame{opcode, payload}
	if opcode == OpClose {
		s.posted.Store(f)
	} else if !s.posted.CompareAndSwap(nil, f) {
		return
	}
	if s.mu.TryLock() {
		s.unlock()
	}
}

// waiting reports whether a posted frame waits for its turn.
func (s *Writer) Waiting() bool { return s.posted.Load() != nil }

// failure is the error of a write that has failed, if none is under way.
func (s *Writer) Failure() error {
	if !s.mu.TryLock() {
		return nil
	}
	defer s.unlock()
	return s.err
}

// unlock sends what was posted before it lets go.
func (s *Writer) unlock() {
	for {
		withinFrame := s.unlockOnce()
		if withinFrame || s.posted.Load() == nil || !s.mu.TryLock() {
			return
		}
	}
}

// unlockOnce sends what was posted, unless that would be within a frame, which it
// reports, and lets go even if that panics.
func (s *Writer) unlockOnce() (withinFrame bool) {
	defer s.mu.Unlock()
	if s.withinFrame {
		return true
	}
	if f := s.posted.Swap(nil); f != nil {
		_ = s.controlLocked(*f) // an error stays with the sender
	}
	return false
}

func (s *Writer) ready() error {
	if s.err == nil && s.closeSent {
		return ErrCloseSent
	}
	return s.err
}

func (s *Writer) controlLocked(f controlFrame) error {
	if err := s.ready(); err != nil {
		return err
	}
	if err := s.flushLocked(); err != nil {
		return err
	}
	if f.opcode == OpPing && f.payload == nil {
		f.payload = s.ping()
	}
	s.closeSent = f.opcode == OpClose
	frame := make([]byte, 0, 2+4+MaxControlPayload)
	if s.masked {
		var key [4]byte
		binary.NativeEndian.PutUint32(key[:], mathrand.Uint32())
		return s.write(AppendMaskedFrame(frame, FinBit|byte(f.opcode), key, f.payload))
	}
	err := s.write(AppendFrame(frame, FinBit|byte(f.opcode), f.payload))
	switch {
	case err != nil:
	case f.opcode == OpPing:
		s.keepalive.pinged()
	case f.opcode == OpClose && s.onClose != nil:
		s.onClose()
	}
	return err
}

func (s *Writer) flushLocked() error {
	if s.cork == nil {
		return s.err
	}
	cork := s.cork
	s.cork = nil
	defer corks.Put(cork)
	return s.write(cork.P)
}

func (s *Writer) write(p []byte) error {
	if s.err != nil {
		return s.err
	}
	if s.keepalive != nil {
		s.keepalive.send()
	}
	if _, err := s.out.Write(p); err != nil {
		s.err = &WriteError{Err: err}
	}
	if s.keepalive != nil {
		s.keepalive.sent()
	}
	return s.err
}
