package echo

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// An outgoing is a message that is to be sent.
type outgoing struct {
	io.Reader
	size int // how much it returns, in bytes
}

// dots is an endless line of them.
type dots struct{}

func (dots) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '.'
	}
	return len(p), nil
}

// sendUnasked sends a message that answers none.
func (p *player) sendUnasked() error {
	p.unasked++
	p.messages++
	p.nextUnasked = p.nextUnasked.Add(p.Controls.Interval)
	if now := time.Now(); p.nextUnasked.Before(now) {
		p.nextUnasked = now // what was missed is not made up for
	}
	number := strings.NewReader(fmt.Sprintf("%d of %d ", p.unasked, p.Controls.Count))
	size := p.Controls.Size
	return p.send(ws.OpText, outgoing{io.LimitReader(io.MultiReader(number, dots{}), int64(size)), size})
}

// send sends a message in frames.
func (p *player) send(opcode ws.Opcode, m outgoing) error {
	size, firstByte := m.size, byte(opcode)
	if p.Deflate != nil {
		m, firstByte = p.deflateMessage(m, &p.sent), firstByte|ws.RSV1Bit
	}
	length := p.Controls.Fragment
	if length == 0 {
		length = ws.BlockPayload
	}
	for ; m.size > length; m.size -= length {
		if err := p.sendFrame(firstByte, m, length); err != nil {
			return err
		}
		firstByte = byte(ws.OpContinuation)
	}
	if err := p.sendFrame(firstByte|ws.FinBit, m, m.size); err != nil {
		return err
	}
	if err := p.passPiece(false); err != nil {
		return err
	}
	p.Sent.Add(1, size)
	return nil
}

// sendFrame adds a frame with the next bytes of a payload to the piece, or sends it in several.
// Control frames that wait come first.
func (p *player) sendFrame(firstByte byte, payload io.Reader, length int) error {
	if err := p.sendPong(); err != nil {
		return err
	}
	p.sendPing()
	if len(p.piece) > 0 && len(p.piece)+ws.HeaderLen(length)+length > p.pieceSize() {
		// Pieces end between frames where they can, for control frames fit in only there.
		if err := p.passPiece(false); err != nil {
			return err
		}
	}
	p.piece = ws.AppendHeader(p.piece, firstByte, length)
	for length > 0 {
		at := len(p.piece)
		room := p.pieceSize() - at
		if room <= 0 {
			if err := p.passPiece(true); err != nil {
				return err
			}
			continue
		}
		n := min(length, room)
		p.piece = append(p.piece, make([]byte, n)...)
		if _, err := io.ReadFull(payload, p.piece[at:]); err != nil {
			return err
		}
		length -= n
	}
	return nil
}

// passPiece sends the piece, at the speed that is asked for. It may end within a frame.
func (p *player) passPiece(withinFrame bool) error {
	for piece := p.piece; len(piece) > 0; {
		n := min(len(piece), p.pieceSize())
		if err := p.pace(n); err != nil {
			return err
		}
		if err := p.Out.Pass(piece[:n], withinFrame || n < len(piece), false); err != nil {
			return err
		}
		piece = piece[n:]
	}
	p.piece = p.piece[:0]
	return nil
}

// maxPiece is how many bytes of a message are sent at once at most.
const maxPiece = 64 << 10

// pieceSize returns how many bytes of a message are sent at once: ten times a second, if the
// speed is low enough for that.
func (p *player) pieceSize() int {
	if !p.slow() {
		return maxPiece
	}
	return int(min(max(1, p.Controls.Rate/10), maxPiece))
}

// slow reports whether messages are sent at a rate. When the socket is about to end, they aren't
// any more, so that a Close frame fits in behind the frame that is being sent.
func (p *player) slow() bool { return p.Controls.Rate > 0 && !p.isFinished() && !p.hasEnded() }

// pace waits until n more bytes are due. After an abort no more bytes are.
func (p *player) pace(n int) error {
	if p.slow() {
		p.awaitPaced(n)
	}
	if p.Controls.Abort && p.hasEnded() {
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
	for p.slow() && time.Until(p.paced) > 0 {
		p.sleep(p.paced)
		p.sendPing()
	}
}

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

// sendPong sends the Pong that is due, if any, between two frames.
func (p *player) sendPong() error {
	p.mu.Lock()
	payload := p.pong
	p.pong = nil
	p.mu.Unlock()
	if payload == nil {
		return nil
	}
	if err := p.passPiece(false); err != nil {
		return err
	}
	return p.Out.Control(ws.OpPong, payload)
}
