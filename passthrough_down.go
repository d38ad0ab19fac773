package caddywebsocket

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"

	"github.com/gorilla/websocket"

	"github.com/seed-21dbdb71/caddy-websocket/internal/stream"
	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// push passes on to the client what the application writes. It may change p while a
// Ping to the application has not been answered.
func (t *tunnel) push(p []byte) error {
	closedBefore := t.down.Closed
	r := t.down.Scan(p)
	if t.tooBig {
		r.Pass = nil
	}
	if t.down.Closed && !closedBefore { // noted before the client can answer it
		t.end(endingBy(byUpstream, t.down.Close))
	}
	if err := t.pass(r); err != nil && !errors.Is(err, ws.ErrCloseSent) {
		return err
	} // the application learns of a Close frame in its own direction
	if r.Err != nil {
		t.refuse(r.Err)
		t.tooBig = true
		t.down.Limit = 0
		r.Held = t.down.Scan(r.Held).Held
	}
	t.downHeld = append(t.downHeld[:0], r.Held...)
	t.checkBroken(&t.down, "application")
	return nil
}

// pass writes to the client what passes of a scan.
func (t *tunnel) pass(r ws.Scanned) error {
	if len(r.Pass) == 0 {
		return nil
	}
	if b := r.Boundary; b > 0 && b < len(r.Pass) && t.out.Waiting() {
		// What waits for the end of a frame gets its turn in the middle.
		if err := t.write(r.Pass[:b], false, false); err != nil {
			return err
		}
		r.Pass = r.Pass[b:]
	}
	err := t.write(r.Pass, t.down.WithinFrame(), t.down.Closed)
	if err == nil {
		t.sent.Set(t.down.Messages, t.down.Bytes)
	}
	return err
}

// write writes to the client, as ws.Writer.Pass does. If that fails it is how the
// session ends.
func (t *tunnel) write(p []byte, withinFrame, closed bool) error {
	err := t.out.Pass(p, withinFrame, closed)
	if err != nil && !errors.Is(err, ws.ErrCloseSent) {
		t.failed(err)
	}
	return err
}

// Write passes on what the application writes by itself.
func (t *tunnel) Write(p []byte) (n int, err error) {
	defer t.contain(&err)
	if (t.copying.Load() || t.handler.ctx.Err() != nil) && isProxyClose(p) && calledBy("reverseproxy.writeCloseControl") {
		t.plan(0, t.proxyClosed()) // the proxy waits for this with a lock in hand
		return len(p), nil
	}
	t.downMu.Lock()
	defer t.downMu.Unlock()
	t.appKeepalive.Heard()
	defer t.appKeepalive.Listen()
	if t.head != nil {
		return len(p), t.pushHead(p)
	}
	n = len(p)
	if len(t.downHeld) > 0 || t.appKeepalive.unanswered() {
		p = append(bytes.Clone(t.downHeld), p...)
	}
	return n, t.push(p)
}

// isProxyClose reports whether p is like the Close frame that reverse_proxy writes
// past its copy loop when its config is unloaded. In the middle of a frame that
// would be taken for a part of it.
func isProxyClose(p []byte) bool {
	return bytes.Equal(p, []byte{ws.FinBit | byte(ws.OpClose), 2, websocket.CloseGoingAway >> 8, websocket.CloseGoingAway & 0xff})
}

// calledBy reports whether a function with a name that ends so is among the callers.
// An application may write the bytes of a Close frame within a frame of its own.
func calledBy(name string) bool {
	callers := make([]uintptr, 16)
	frames := runtime.CallersFrames(callers[:runtime.Callers(2, callers)])
	for {
		frame, more := frames.Next()
		if strings.HasSuffix(frame.Function, name) {
			return true
		}
		if !more {
			return false
		}
	}
}

// maxHead is how much an application may write before its answer's head has
// ended.
const maxHead = 64 << 10

// pushHead passes on the head of the response of an application that hijacked
// the connection and answers the handshake by itself.
func (t *tunnel) pushHead(p []byte) error {
	const end = "\r\n\r\n"
	t.head = append(t.head, p...)
	i := bytes.Index(t.head, []byte(end))
	if i < 0 {
		if len(t.head) > maxHead {
			t.down.Broken, t.head = errors.New("the answer's head doesn't end"), nil
			t.checkBroken(&t.down, "application")
		}
		return t.write(p, true, false)
	}
	rest := len(t.head) - i - len(end)
	answer, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(t.head)), nil)
	switch {
	case err != nil:
		t.down.Broken = fmt.Errorf("reading the answer: %w", err)
	case answer.StatusCode != http.StatusSwitchingProtocols:
		t.down.Broken = errors.New("the answer is not 101")
	default:
		t.agree(answer.Header)
	}
	t.head = nil
	t.checkBroken(&t.down, "application")
	if err := t.write(p[:len(p)-rest], t.down.WithinFrame(), false); err != nil || rest == 0 {
		return err
	}
	return t.push(p[len(p)-rest:])
}

// ReadFrom passes on what comes from the application, until that ends.
// reverse_proxy has a goroutine that does nothing but wait here, so the frame of
// this function is kept small: it has no defers, and the work is in pushRead.
func (t *tunnel) ReadFrom(app io.Reader) (read int64, err error) {
	t.copying.Store(true)
	empty := 0
	buf := ws.NewCopyBuffer(t.handler.buffers)
	for expected := int64(0); ; {
		p := buf.Next(expected, len(t.downHeld))
		n := copy(p, t.downHeld)
		k, readErr := app.Read(p[n:])
		buf.Took(k)
		read += int64(k)
		if k > 0 {
			if expected, err = t.pushRead(p[:n+k], k, n+k == len(p)); err != nil {
				break
			}
		}
		if k > 0 || readErr != nil {
			empty = 0
		} else if empty++; empty == stream.MaxEmptyReads {
			readErr = io.ErrNoProgress
		}
		if readErr != nil {
			t.appGone(readErr)
			err = endOfCopy(readErr)
			break
		}
	}
	buf.Release()
	t.copying.Store(false)
	return read, err
}

// pushRead passes on what ends with a read of k bytes, which filled the buffer if
// full is set, and returns how much the next read can be expected to bring.
func (t *tunnel) pushRead(p []byte, k int, full bool) (expected int64, err error) {
	defer t.contain(&err)
	t.downMu.Lock()
	defer t.downMu.Unlock()
	t.appKeepalive.Heard()
	err = t.push(p)
	t.appKeepalive.Listen()
	// What comes next may be like the last, and the rest of a frame is on its way. But an
	// application that only announces one holds little.
	size := int64(t.handler.buffers.Size)
	if !full {
		return min(max(t.down.Remaining, int64(k)), size), err
	}
	return max(t.down.Remaining, int64(len(p))+1), err
}

// appGone deals with the end of what comes from the application.
func (t *tunnel) appGone(err error) {
	t.downMu.Lock()
	defer t.downMu.Unlock()
	end := t.handler.ending(byUpstream)
	if errors.Is(err, net.ErrClosed) { // from this side
		end = t.proxyClosed()
	}
	end, _ = t.end(end)
	t.finishClose(end) // also if the client's Close frame is still to be answered
}
