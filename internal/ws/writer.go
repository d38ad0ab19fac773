package ws

import (
	"encoding/binary"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
)

var (
	// ErrCloseSent is returned for a frame that follows a Close frame: nothing may
	// (RFC 6455 §5.5.1).
	ErrCloseSent = errors.New("close frame already sent")
	// errEnded is returned for a frame that is to be sent after End.
	errEnded = errors.New("session has ended")
)

// A WriteError is the error of a write to a stream. Its type tells it from that of a
// read.
type WriteError struct{ Err error }

func (e *WriteError) Error() string { return "writing: " + e.Err.Error() }

// Unwrap returns the error of the stream.
func (e *WriteError) Unwrap() error { return e.Err }

// corkSize is the number of bytes that are held back at most.
const corkSize = 16 << 10

var corks = NewBufferPool(corkSize)

// A Writer writes frames to a peer, from any goroutine: our own frames, and bytes of
// frames that are passed through. Our own never land within one that is passed
// through. Small frames are held back (corked) until Flush, so that the replies to
// messages that came together leave in one system call.
//
// Its methods return [ErrCloseSent] after a Close frame has been written, and a
// [*WriteError] once a write has failed.
type Writer struct {
	mu          sync.Mutex // guards the fields below except posted, and writes to out
	out         io.Writer
	masked      bool          // frames are a client's
	keepalive   *Keepalive    // records writes; nil for none
	ping        func() []byte // returns the payload of a Ping that is about to be written
	onClose     func()        // called when our Close frame has been written; nil for none
	cork        *Buffer       // complete frames that are held back; nil while there are none
	withinFrame bool          // the bytes that were passed through end within a frame
	closeSent   bool
	err         error // that of the first write that failed

	// posted is a control frame that waits to be written. A slow peer can make a write
	// hold mu for as long as the write timeout, so Post doesn't wait for mu: whoever
	// holds mu writes the frame before unlocking, or once the frame that is being
	// passed through has ended.
	posted atomic.Pointer[controlFrame]
}

// Begin makes w write to a client. The payload of each Ping is returned by ping when
// the Ping is written; onClose, which may be nil, is called after our Close frame was
// written. Both are called with a lock held and must not call w.
func (w *Writer) Begin(client io.Writer, k *Keepalive, ping func() []byte, onClose func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.out, w.keepalive, w.ping, w.onClose = client, k, ping, onClose
}

// BeginApp is Begin for a peer that is an application: frames to it are masked.
func (w *Writer) BeginApp(app io.Writer, k *Keepalive, ping func() []byte) {
	w.Begin(app, k, ping, nil)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.masked = true
}

// AppendClientControl appends a client's control frame, masked with a random key.
func AppendClientControl(p []byte, opcode Opcode, payload []byte) []byte {
	var key [4]byte
	binary.NativeEndian.PutUint32(key[:], mathrand.Uint32())
	return AppendMaskedFrame(p, FinBit|byte(opcode), key, payload)
}

// Hold holds our control frames back until the next Pass.
func (w *Writer) Hold() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.withinFrame = true
}

// Exclusively calls f while nothing is being written.
func (w *Writer) Exclusively(f func()) {
	w.mu.Lock()
	defer w.unlock()
	f()
}

// End makes all further writes fail. If a write is under way, End calls cut, which
// must make it return, and waits for it.
func (w *Writer) End(cut func()) {
	if !w.mu.TryLock() {
		cut()
		w.mu.Lock()
	}
	defer w.mu.Unlock()
	w.err = errEnded
}

type controlFrame struct {
	opcode  Opcode
	payload []byte
}

// Send writes a whole frame, header included, or holds it back if more is set, which
// says that another Send or a Flush follows soon. It does not retain frame.
func (w *Writer) Send(frame []byte, more bool) error {
	w.mu.Lock()
	defer w.unlock()
	if err := w.ready(); err != nil {
		return err
	}
	if !more && w.cork == nil || len(frame) > corkSize/2 {
		if err := w.flushLocked(); err != nil {
			return err
		}
		return w.write(frame)
	}
	if w.cork != nil && len(w.cork.P)+len(frame) > corkSize {
		if err := w.flushLocked(); err != nil {
			return err
		}
	}
	if w.cork == nil {
		w.cork = corks.Get()
		w.cork.P = w.cork.P[:0]
	}
	w.cork.P = append(w.cork.P, frame...)
	return nil
}

// Flush writes the frames that were held back.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.unlock()
	return w.flushLocked()
}

// Control writes a control frame, after the frames that were held back. The payload is
// at most MaxControlPayload bytes long.
func (w *Writer) Control(opcode Opcode, payload []byte) error {
	w.mu.Lock()
	defer w.unlock()
	return w.controlLocked(controlFrame{opcode, payload})
}

// Pass writes bytes of frames that are passed through. The caller reports whether they
// end within a frame, and whether they end with a Close frame.
func (w *Writer) Pass(p []byte, withinFrame, closed bool) error {
	w.mu.Lock()
	defer w.unlock()
	if err := w.ready(); err != nil {
		return err
	}
	w.withinFrame, w.closeSent = withinFrame, closed
	return w.write(p)
}

// Post has a control frame written at the next frame boundary, without waiting for a
// write that is under way. While a frame waits, a Close replaces it and others are
// dropped. With a nil payload, the payload of a Ping is decided when it is written.
func (w *Writer) Post(opcode Opcode, payload []byte) {
	f := &controlFrame{opcode, payload}
	if opcode == OpClose {
		w.posted.Store(f)
	} else if !w.posted.CompareAndSwap(nil, f) {
		return
	}
	if w.mu.TryLock() {
		w.unlock()
	}
}

// Waiting reports whether a posted frame waits to be written.
func (w *Writer) Waiting() bool { return w.posted.Load() != nil }

// Err returns the error of a write that has failed, or nil while one is under way.
func (w *Writer) Err() error {
	if !w.mu.TryLock() {
		return nil
	}
	defer w.unlock()
	return w.err
}

// unlock writes the posted frame, if any, before it unlocks mu.
func (w *Writer) unlock() {
	for {
		withinFrame := w.unlockOnce()
		if withinFrame || w.posted.Load() == nil || !w.mu.TryLock() {
			return
		}
	}
}

// unlockOnce writes the posted frame and unlocks mu, even if the write panics. Within
// a frame that is passed through it only unlocks mu, and returns true.
func (w *Writer) unlockOnce() (withinFrame bool) {
	defer w.mu.Unlock()
	if w.withinFrame {
		return true
	}
	if f := w.posted.Swap(nil); f != nil {
		_ = w.controlLocked(*f) // the error is kept in err
	}
	return false
}

// ready returns the error for which no further frame can be written.
func (w *Writer) ready() error {
	if w.err == nil && w.closeSent {
		return ErrCloseSent
	}
	return w.err
}

func (w *Writer) controlLocked(f controlFrame) error {
	if err := w.ready(); err != nil {
		return err
	}
	if err := w.flushLocked(); err != nil {
		return err
	}
	if f.opcode == OpPing && f.payload == nil {
		f.payload = w.ping()
	}
	w.closeSent = f.opcode == OpClose
	frame := make([]byte, 0, 2+4+MaxControlPayload)
	if w.masked {
		frame = AppendClientControl(frame, f.opcode, f.payload)
	} else {
		frame = AppendFrame(frame, FinBit|byte(f.opcode), f.payload)
	}
	err := w.write(frame)
	switch {
	case err != nil:
	case f.opcode == OpPing && w.keepalive != nil:
		w.keepalive.PingSent()
	case f.opcode == OpClose && w.onClose != nil:
		w.onClose()
	}
	return err
}

func (w *Writer) flushLocked() error {
	if w.cork == nil {
		return w.err
	}
	cork := w.cork
	w.cork = nil
	defer corks.Put(cork)
	return w.write(cork.P)
}

func (w *Writer) write(p []byte) error {
	if w.err != nil {
		return w.err
	}
	if w.keepalive != nil {
		w.keepalive.BeginWrite()
	}
	if _, err := w.out.Write(p); err != nil {
		w.err = &WriteError{Err: err}
	}
	if w.keepalive != nil {
		w.keepalive.EndWrite()
	}
	return w.err
}
