package caddywebsocket

import (
	"errors"
	"io"
	"os"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// pull receives what comes from the client and returns what of it passes to the
// application; it lies in buf, which is at least of the size of room.
func (t *tunnel) pull(buf []byte) ([]byte, error) {
	n := copy(buf, t.upHeld)
	t.keepalive.Listen()
	k, err := t.stream.Read(buf[n:])
	t.got = k
	if err == nil {
		t.keepalive.Heard()
		return t.follow(buf[:n+k])
	}
	if _, ok := errors.AsType[*ws.CloseError](err); ok { // by message_rate or byte_rate
		t.refused, t.cutOff = true, t.up.WithinFrame()
		t.up.Limit = 0
		return nil, err
	}
	t.clientEnded(err)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, err // what is held may yet go on, or never should
	}
	t.upHeld = nil
	if t.refused {
		n = 0
	}
	return buf[:n], err
}

// follow scans what was read from the client, after what was held, and returns
// what of it passes.
func (t *tunnel) follow(p []byte) ([]byte, error) {
	var err error
	closedBefore := t.up.Closed
	r := t.up.Scan(p)
	if !t.refused {
		t.received.Set(t.up.Messages, t.up.Bytes)
	}
	if t.refused {
		r.Pass = nil
	} else if r.Err != nil {
		t.refused = true
		t.up.Limit = 0 // what follows is read for the sake of its Close frame
		r.Held = t.up.Scan(r.Held).Held
		err = r.Err
	}
	t.upHeld = append(t.upHeld[:0], r.Held...)
	if t.up.Closed && !closedBefore {
		t.end(endingBy(byClient, t.up.Close))
	}
	if !t.refused {
		t.checkBroken(&t.up, "client")
	}
	return r.Pass, err
}

// clientEnded deals with the end of what comes from the client.
func (t *tunnel) clientEnded(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) && !t.timedOut() {
		return // an interruption
	}
	t.failed(err)
}

// timedOut reports whether it was a timeout of the HTTP server's that ended a
// read. Without those it was a deadline of the application's.
func (t *tunnel) timedOut() bool {
	if !t.stream.HasServerTimeouts() || t.appClose.Load() != nil {
		return false
	}
	select {
	case <-t.appDone:
		return false
	default:
		return true
	}
}

// upWithinFrame reports whether what passed to the application ends within a
// frame.
func (t *tunnel) upWithinFrame() bool {
	if t.refused {
		return t.cutOff
	}
	return t.up.WithinFrame()
}

// WriteTo writes to the application what comes from the client, until that
// ends. It holds no buffer while the client is silent, and little stack: the work
// is in forward.
func (t *tunnel) WriteTo(app io.Writer) (written int64, err error) {
	t.upMu.Lock()
	defer t.leave(&err)
	t.attach(app)
	t.stopWaiting()
	buf := ws.NewCopyBuffer(t.handler.buffers)
	for expected := int64(0); err == nil && !t.answered(); {
		if t.up.WithinFrame() || len(t.upHeld) > 0 {
			expected, err = t.forward(&buf, expected, &written)
			continue
		}
		buf.Release()
		t.keepalive.Listen()
		if err = t.stream.Wait(); err != nil {
			t.clientEnded(err)
		} else {
			expected, err = t.forward(&buf, ws.MaxCopy, &written) // whatever it is, it is there
		}
	}
	buf.Release()
	return written, endOfCopy(err)
}

// leave ends WriteTo, also for a panic. One deferred call takes less stack than two.
func (t *tunnel) leave(err *error) {
	panicked := recover()
	t.upMu.Unlock()
	if panicked != nil {
		*err = t.panicked(panicked)
	}
}

// attach has the application written to by itself.
func (t *tunnel) attach(app io.Writer) {
	t.toApp.BeginApp(app, &t.appKeepalive.Keepalive, t.appKeepalive.nextPing)
	t.appWritten.Store(true)
	t.postAppPing()
	if e := t.appClose.Load(); e != nil {
		t.toApp.Post(ws.OpClose, e.appPayload())
	}
}

// answered reports whether the client has answered our Close frame.
func (t *tunnel) answered() bool { return t.appClose.Load() != nil && t.up.Closed }

// forward writes to the application what a read from the client brings, of which
// so much is expected, and returns how much the next one can be expected to.
func (t *tunnel) forward(buf *ws.CopyBuffer, expected int64, written *int64) (next int64, err error) {
	held, room := len(t.upHeld), buf.Next(expected, len(t.upHeld))
	p, err := t.pull(room)
	buf.Took(t.got)
	next = ws.MaxCopy
	if held+t.got < len(room) {
		next = int64(buf.Pool.Size) // a client that stops within a frame holds little
	}
	if len(p) > 0 {
		writeErr := t.toApp.Pass(p, t.upWithinFrame(), t.up.Closed)
		if writeErr != nil && !errors.Is(writeErr, ws.ErrCloseSent) {
			t.lost.Store(true)
			return next, writeErr
		}
		*written += int64(len(p))
	}
	if refused, ok := errors.AsType[*ws.CloseError](err); ok {
		t.refuse(refused)
		err = nil
	}
	return next, err
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
	t.appKeepalive.EndWrite()
	n, err = t.readLocked(p)
	t.appKeepalive.BeginWrite() // which ends when the application reads on
	return n, err
}

func (t *tunnel) readLocked(p []byte) (n int, err error) {
	for len(t.ready) == 0 {
		if t.readErr != nil {
			return 0, t.readErr
		}
		if e := t.appClose.Load(); e != nil && !t.upWithinFrame() {
			t.ready, t.readErr = ws.AppendClientControl(nil, ws.OpClose, e.appPayload()), io.EOF
			break
		}
		if t.takesAppPing() {
			t.ready = t.nextAppPing()
			break
		}
		if t.awaitsClient() && !t.awaitClient() {
			continue
		}
		buf := t.room[:]
		direct := len(p) >= len(buf)
		if direct {
			buf = p
		}
		out, err := t.pull(buf)
		if refused, ok := errors.AsType[*ws.CloseError](err); ok {
			t.refuse(refused)
		} else if errors.Is(err, os.ErrDeadlineExceeded) {
			switch {
			case t.appClose.Load() == nil:
				return 0, err // the application's own deadline
			case t.upWithinFrame() && !t.resumed:
				t.resumed = true
				t.stream.Resume() // the frame may still end
			case t.upWithinFrame():
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

// readBefore reads for an application that began to before it accepted the socket.
func (t *tunnel) readBefore(body io.Reader, p []byte) (int, error) {
	n, err := body.Read(p)
	if !t.begun() {
		return n, err
	}
	t.upMu.Lock()
	defer t.upMu.Unlock()
	if n > 0 {
		t.keepalive.Heard()
		if t.rates != nil {
			t.rates.Count(p[:n])
		}
		passed, refused := t.follow(p[:n])
		if closing, ok := errors.AsType[*ws.CloseError](refused); ok {
			t.refuse(closing)
		}
		n = len(passed)
	}
	if err != nil {
		t.clientEnded(err)
	}
	return n, err
}
