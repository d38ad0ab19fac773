package echo

import (
	"bytes"
	"fmt"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// sendUnasked sends a message that answers none.
func (p *player) sendUnasked() error {
	p.unasked++
	p.messages++
	p.nextUnasked = p.nextUnasked.Add(p.Controls.Interval)
	if now := time.Now(); p.nextUnasked.Before(now) {
		p.nextUnasked = now // what was missed is not made up for
	}
	message := bytes.Repeat([]byte{'.'}, p.Controls.Size)
	copy(message, fmt.Sprintf("%d of %d ", p.unasked, p.Controls.Count))
	return p.send(ws.OpText, message)
}

// send sends a message in frames.
func (p *player) send(opcode ws.Opcode, message []byte) error {
	firstByte, payload := byte(opcode), message
	if p.Deflate != nil {
		firstByte, payload = firstByte|ws.RSV1Bit, p.deflateMessage(message, &p.sent)
	}
	size := p.Controls.Fragment
	if size == 0 {
		size = ws.BlockPayload
	}
	for len(payload) > size {
		if err := p.sendFrame(firstByte, payload[:size]); err != nil {
			return err
		}
		if err := p.sendPong(); err != nil {
			return err
		}
		firstByte, payload = byte(ws.OpContinuation), payload[size:]
	}
	if err := p.sendFrame(firstByte|ws.FinBit, payload); err != nil {
		return err
	}
	p.Sent.Add(1, len(message))
	return p.Out.Flush()
}

// sendFrame sends a frame, at the speed that is asked for.
func (p *player) sendFrame(firstByte byte, payload []byte) error {
	if p.aborted() {
		return ws.ErrCloseSent
	}
	p.frame = ws.AppendHeader(p.frame[:0], firstByte, len(payload))
	if p.Controls.Rate == 0 && len(payload) <= ws.BlockPayload {
		p.frame = append(p.frame, payload...)
		return p.Out.Send(p.frame, true)
	}
	if err := p.pass(p.frame, len(payload) > 0); err != nil {
		return err
	}
	return p.pass(payload, false)
}

// pass sends bytes of a frame, of which more may follow.
func (p *player) pass(b []byte, more bool) error {
	for len(b) > 0 {
		n := min(len(b), p.pieceSize())
		if err := p.pace(n); err != nil {
			return err
		}
		if err := p.Out.Pass(b[:n], more || n < len(b), false); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// pieceSize returns how many bytes of a frame are sent at once: ten times a second, if the
// speed is low enough for that.
func (p *player) pieceSize() int {
	if p.Controls.Rate == 0 {
		return ws.BlockPayload
	}
	return int(min(max(1, p.Controls.Rate/10), 16<<10))
}

// pace waits until n more bytes of a frame are due. When the socket is about to end, that is at
// once, so that a Close frame fits in behind the frame. After an abort no more bytes are due.
func (p *player) pace(n int) error {
	if p.Controls.Rate > 0 {
		p.awaitPaced(n)
	}
	if p.aborted() {
		return ws.ErrCloseSent
	}
	return nil
}

// awaitPaced waits until n more bytes are due by the rate.
func (p *player) awaitPaced(n int) {
	const mostBehind = 100 * time.Millisecond
	if now := time.Now(); p.paced.Before(now.Add(-mostBehind)) {
		p.paced = now
	}
	p.paced = p.paced.Add(time.Duration(int64(n) * int64(time.Second) / p.Controls.Rate))
	for !p.isFinished() && !p.hasEnded() && time.Until(p.paced) > 0 {
		p.sleep(p.paced)
		p.sendPing()
	}
}

// aborted reports whether the socket has ended in a way that cuts what is being sent.
func (p *player) aborted() bool { return p.Controls.Abort && p.hasEnded() }

func (p *player) isFinished() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.finished
}

// sendPing sends a Ping if one is due.
func (p *player) sendPing() {
	if p.Controls.Ping == 0 || time.Now().Before(p.nextPing) {
		return
	}
	p.nextPing = time.Now().Add(p.Controls.Ping)
	p.Ping()
}

// sendPong sends the Pong that is due, if any.
func (p *player) sendPong() error {
	p.mu.Lock()
	payload := p.pong
	p.pong = nil
	p.mu.Unlock()
	if payload == nil {
		return nil
	}
	return p.Out.Control(ws.OpPong, payload)
}
