package caddywebsocket

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// pull receives what comes from the client and returns what of it passes to the
// application; it lies in buf, which is at least of the size of room.
func (t *tunnel) pull(buf []byte) ([]byte, error) {
	n := copy(buf, t.held)
	t.life.listen()
	k, err := t.stream.Read(buf[n:])
	t.got = k
	if k == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		t.clientEnded(err)
		return nil, err // what is held may yet go on, or never should
	}
	if k == 0 {
		t.held = nil
		t.clientEnded(err)
		if t.refused {
			n = 0
		}
		return buf[:n], err
	}
	t.life.heard()
	closedBefore := t.up.closed
	r := t.up.scan(buf[:n+k])
	t.received.set(t.up.messages, t.up.bytes)
	if t.refused {
		r.pass = nil
	} else if r.err != nil {
		t.refused = true
		t.up.limit = 0 // what follows is read for the sake of its Close frame
		r.held = t.up.scan(r.held).held
		err = r.err
	}
	t.held = append(t.held[:0], r.held...)
	if t.up.closed && !closedBefore {
		t.closed(ending{byClient, t.up.close.code, t.up.close.reason})
	}
	if !t.refused {
		t.checkBroken(&t.up, "client")
	}
	return r.pass, err
}

// clientEnded deals with the end of what comes from the client.
func (t *tunnel) clientEnded(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) && !t.timedOut() {
		return // an interruption
	}
	t.broke(err)
}

// timedOut reports whether it was a timeout of the HTTP server's that ended a
// read. On HTTP/1.1 it has none any more, and the application may set its own.
func (t *tunnel) timedOut() bool {
	if _, ok := t.stream.(*bodyStream); !ok || t.told.Load() != nil {
		return false
	}
	select {
	case <-t.abandoned:
		return false
	default:
		return true
	}
}

// upOpen reports whether what passed to the application ends within a frame.
func (t *tunnel) upOpen() bool { return !t.refused && t.up.open() }

// WriteTo writes to the application what comes from the client, until that
// ends. It holds no buffer while the client is silent.
func (t *tunnel) WriteTo(app io.Writer) (written int64, err error) {
	defer t.contain(&err)
	t.upMu.Lock()
	defer t.upMu.Unlock()
	t.toApp.mu.Lock()
	t.toApp.out = app
	t.toApp.mu.Unlock()
	t.writing.Store(true)
	if e := t.told.Load(); e != nil {
		t.toApp.post(opClose, closePayload(e.code, e.reason))
	}
	buf := copyBuffer{pool: t.handler.buffers}
	defer buf.release()
	for expected := int64(0); ; {
		if !t.up.open() && len(t.held) == 0 {
			buf.release()
			t.life.listen()
			if err := t.stream.wait(); err != nil {
				t.clientEnded(err)
				return written, endOfCopy(err)
			}
			expected = int64(copyBlocks.size) // whatever it is, it is there
		}
		held, room := len(t.held), buf.next(expected, len(t.held))
		p, readErr := t.pull(room)
		buf.took(t.got)
		if held+t.got < len(room) {
			expected = int64(buf.pool.size) // a client that stops within a frame holds little
		} else {
			expected = int64(copyBlocks.size)
		}
		if len(p) > 0 {
			err := t.toApp.pass(p, t.upOpen(), t.up.closed)
			if err != nil && !errors.Is(err, errCloseSent) {
				t.lost.Store(true)
				return written, err
			}
			written += int64(len(p))
		}
		if refused, ok := errors.AsType[*closeError](readErr); ok {
			t.refuse(refused)
		} else if readErr != nil {
			return written, endOfCopy(readErr)
		}
		if t.told.Load() != nil && t.up.closed {
			return written, nil // the client has answered our Close frame
		}
	}
}

// endOfCopy is what a copy returns for an error of its reader.
func endOfCopy(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// Read reads what comes from the client.
func (t *tunnel) Read(p []byte) (n int, err error) {
	defer t.contain(&err)
	t.upMu.Lock()
	defer t.upMu.Unlock()
	for len(t.ready) == 0 {
		if t.readErr != nil {
			return 0, t.readErr
		}
		if e := t.told.Load(); e != nil && !t.upOpen() {
			t.ready, t.readErr = maskedClose(*e), io.EOF
			break
		}
		buf := t.room[:]
		direct := len(p) >= len(buf)
		if direct {
			buf = p
		}
		out, err := t.pull(buf)
		if refused, ok := errors.AsType[*closeError](err); ok {
			t.refuse(refused)
		} else if errors.Is(err, os.ErrDeadlineExceeded) {
			switch {
			case t.told.Load() == nil:
				return 0, err // the application's own deadline
			case t.upOpen() && !t.resumed:
				t.resumed = true
				t.stream.resume() // the frame may still end
			case t.upOpen():
				t.readErr = io.ErrUnexpectedEOF
			}
		} else if err != nil {
			t.readErr = err
		}
		if direct && len(out) > 0 {
			return len(out), nil
		}
		t.ready = out
	}
	n = copy(p, t.ready)
	t.ready = t.ready[n:]
	return n, nil
}

// read takes notice of what was read past the tunnel, and returns how much of it
// passes.
func (t *tunnel) read(p []byte) int {
	t.upMu.Lock()
	defer t.upMu.Unlock()
	r := t.up.scan(p)
	t.held = append(t.held, r.held...)
	t.received.set(t.up.messages, t.up.bytes)
	return len(r.pass)
}

// maskedClose is a client's Close frame.
func maskedClose(e ending) []byte {
	var b bytes.Buffer
	s := sender{out: &b, masked: true}
	_ = s.control(opClose, closePayload(e.code, e.reason))
	return b.Bytes()
}
