package echo

import (
	"errors"
	"sync"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/controls"
	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// A Script has a socket behave as its client asks for.
type Script struct {
	Controls *controls.Controls
	Hello    []byte          // the first message; nil: none
	Ended    <-chan struct{} // closed once it is decided how the socket ends

	Go     func(f func())  // runs f on a goroutine of its own
	Ping   func()          // sends a Ping at the next frame boundary
	End    func()          // ends the socket as Controls.Close or Controls.Abort ask for; called at any time
	Failed func(err error) // ends the socket after a write has failed
	Ignore func()          // notes that the client's Close frame is not answered
}

// maxQueued is how much memory replies that wait may take, in bytes, before nothing more is
// received. One message may exceed it.
const maxQueued = 1 << 20

// queuedOverhead is what a reply takes besides its payload, in bytes, at most.
const queuedOverhead = 128

// scripted is Messages for a socket with a script. One goroutine receives; another one, the
// player's, sends, so that what takes time holds nothing else up.
func (c *Conn) scripted() error {
	script := c.Script
	p := newPlayer(c)
	c.ping = p.queuePong
	script.Go(p.play)
	defer p.finish()
	for replies := 1; ; replies++ {
		h, n, err := c.nextData()
		if _, closed := errors.AsType[*ws.PeerCloseError](err); closed && script.Controls.NeverReply {
			script.Ignore()
			c.In.Drain()
		}
		if err == nil {
			err = p.awaitRoom()
		}
		if err != nil {
			return err
		}
		message, err := c.message(h, n)
		if err != nil {
			return err
		}
		r := reaction{opcode: h.Opcode, payload: message, due: time.Now().Add(script.Controls.Delay)}
		if drop := script.Controls.Drop; drop > 0 && replies%drop == 0 {
			r.payload, r.dropped = nil, true
		}
		p.queue(r)
	}
}

// A reaction is what becomes of a message from the client.
type reaction struct {
	opcode  ws.Opcode
	payload []byte
	due     time.Time
	dropped bool // nothing is sent
}

// memory returns what r takes, in bytes.
func (r *reaction) memory() int { return cap(r.payload) + queuedOverhead }

// A player sends what the script has the client receive.
type player struct {
	*Conn
	*Script

	mu       sync.Mutex // guards the following
	waiting  []reaction // by when they are due
	queued   int        // the memory that they take, with the one that is being sent, in bytes
	pong     []byte     // the payload of a Pong that is due; nil: none
	finished bool       // the client has closed or is gone: only what is due is sent

	wake chan struct{} // tells the player of changes
	room chan struct{} // tells the receiver that waiting has become shorter
	done chan struct{} // closed when the player sends nothing more

	// These are for the player's goroutine only.
	nextPing, nextUnasked time.Time
	unasked               int       // how many messages have been sent unasked
	messages              int       // how many messages count for AfterCount
	paced                 time.Time // when the bytes that have been sent are due, by Rate
	sent                  history
	piece                 []byte // of a message, to be sent at once
}

func newPlayer(c *Conn) *player {
	p := &player{
		Conn: c, Script: c.Script,
		wake: make(chan struct{}, 1), room: make(chan struct{}, 1), done: make(chan struct{}),
	}
	if c.Deflate != nil {
		p.sent.size = c.Deflate.History()
	}
	return p
}

// notify wakes whoever waits for a channel.
func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// awaitRoom waits while too much is waiting. It returns ws.ErrCloseSent if nothing more is sent.
func (p *player) awaitRoom() error {
	for {
		p.mu.Lock()
		full := p.queued >= maxQueued
		p.mu.Unlock()
		if !full {
			break
		}
		select {
		case <-p.room:
		case <-p.done:
			return ws.ErrCloseSent
		}
	}
	select {
	case <-p.done:
		return ws.ErrCloseSent
	default:
		return nil
	}
}

// queue adds what becomes of a message.
func (p *player) queue(r reaction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = append(p.waiting, r)
	p.queued += r.memory()
	notify(p.wake)
}

// queuePong has a Ping answered at the next frame boundary. Of several that wait, only the
// last one is answered (RFC 6455 §5.5.3).
func (p *player) queuePong(payload []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pong = append([]byte{}, payload...)
	notify(p.wake)
}

// finish has the player send what is due and waits for that.
func (p *player) finish() {
	p.mu.Lock()
	p.finished = true
	p.mu.Unlock()
	notify(p.wake)
	<-p.done
}

// play sends until the socket ends.
func (p *player) play() {
	defer close(p.done)
	if after := p.Controls.AfterTime; p.Controls.Ends() && after > 0 {
		defer time.AfterFunc(after, p.End).Stop()
	}
	if err := p.run(); err != nil && !errors.Is(err, ws.ErrCloseSent) {
		p.Failed(err)
	}
}

func (p *player) run() error {
	now := time.Now()
	p.nextPing, p.nextUnasked = now.Add(p.Controls.Ping), now.Add(p.Controls.Interval)
	if p.Hello != nil {
		if err := p.send(ws.OpText, newOutgoing(p.Hello)); err != nil {
			return err
		}
	}
	for {
		if err := p.sendPong(); err != nil {
			return err
		}
		p.sendPing()
		if p.endsNow() {
			p.End()
			return nil
		}
		if p.hasEnded() {
			return nil
		}
		r, due, finished := p.next()
		var err error
		switch {
		case due:
			err = p.react(r)
		case finished:
			return p.sendPong()
		case p.hasUnasked() && !time.Now().Before(p.nextUnasked):
			err = p.sendUnasked()
		default:
			p.sleep(p.nextMoment(r.due))
		}
		if err != nil {
			return err
		}
	}
}

// endsNow reports whether the script ends the socket after as many messages as there were.
func (p *player) endsNow() bool {
	return p.Controls.Ends() && p.Controls.AfterTime == 0 && p.messages >= p.Controls.AfterCount
}

// hasEnded reports whether it is decided how the socket ends.
func (p *player) hasEnded() bool {
	select {
	case <-p.Ended:
		return true
	default:
		return false
	}
}

// next returns the reaction that comes next, and takes it if it is due before the next message
// that is sent unasked.
func (p *player) next() (r reaction, due, finished bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		return reaction{}, false, p.finished
	}
	r = p.waiting[0]
	due = !r.due.After(time.Now()) && (p.finished || !p.hasUnasked() || !r.due.After(p.nextUnasked))
	if due {
		p.waiting[0] = reaction{}
		p.waiting = p.waiting[1:]
	}
	return r, due, p.finished
}

// react sends a reply. The memory that it takes may be used again after that.
func (p *player) react(r reaction) error {
	defer p.release(r.memory())
	p.messages++
	if r.dropped {
		return nil
	}
	return p.send(r.opcode, newOutgoing(r.payload))
}

func (p *player) release(memory int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queued -= memory
	notify(p.room)
}

// hasUnasked reports whether messages are left that are sent unasked.
func (p *player) hasUnasked() bool {
	return p.unasked < p.Controls.Count
}

// nextMoment returns when to look again, if the next reaction is due then; zero: there is none.
func (p *player) nextMoment(due time.Time) time.Time {
	moment := time.Now().Add(controls.MaxDuration)
	if !due.IsZero() {
		moment = earlier(moment, due)
	}
	if p.hasUnasked() {
		moment = earlier(moment, p.nextUnasked)
	}
	return moment
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// sleep waits until a moment, until the next Ping, or until something has changed.
func (p *player) sleep(until time.Time) {
	if p.Controls.Ping > 0 {
		until = earlier(until, p.nextPing)
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.wake:
	case <-p.Ended:
	}
}
