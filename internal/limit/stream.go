package limit

import (
	"bytes"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/stream"
	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// A Stream is a stream of a client's frames that a Meter holds back. A read fails with a
// [*ws.CloseError] once the client has sent what is to be refused. What follows is delayed.
type Stream struct {
	stream.Stream
	meter     *Meter
	keepalive *ws.Keepalive
	readSize  int             // the most that is read without knowing which frames it has
	ending    <-chan struct{} // closed when the session is about to end
	gone      <-chan struct{} // closed when the client is known to have gone
	onDelay   func(time.Duration)
	ahead     []byte       // what was read and may not pass yet
	refusal   error        // the error that the next read returns
	refused   bool         // a read has returned it
	grace     int          // how many bytes may still pass without limits at the end
	delayed   atomic.Int64 // nanoseconds

	mu      sync.Mutex    // guards the following
	stopped chan struct{} // closed while reads are interrupted
	isStop  bool
	isCut   bool
}

// endGrace is how many bytes pass without limits when a session is about to end, so that a
// client's Close frame is found soon that is behind what is held back.
const endGrace = 64 << 10

// NewStream returns a Stream of what s brings. Keepalive learns when the client is held back,
// and so can't be heard. Closing ending or gone ends the waiting. Not much more than readSize
// bytes are read before they may pass. After each time that the client has been held back,
// onDelay is called with how long that was.
func NewStream(s stream.Stream, m *Meter, k *ws.Keepalive, readSize int, ending, gone <-chan struct{}, onDelay func(time.Duration)) *Stream {
	return &Stream{
		Stream: s, meter: m, keepalive: k, readSize: readSize, ending: ending, gone: gone, onDelay: onDelay,
		grace: endGrace, stopped: make(chan struct{}),
	}
}

// Delayed returns how long the client has been held back in all.
func (s *Stream) Delayed() time.Duration { return time.Duration(s.delayed.Load()) }

// Count counts bytes of the client's that have come in another way.
func (s *Stream) Count(p []byte) { s.meter.Count(p, time.Now()) }

// Wait implements [stream.Stream].
func (s *Stream) Wait() error {
	if s.refusal != nil {
		return nil // for Read to return
	}
	if _, err := s.admit(); err != nil {
		return err
	}
	if len(s.ahead) > 0 {
		return nil
	}
	return s.Stream.Wait()
}

// Read implements [stream.Stream].
func (s *Stream) Read(p []byte) (int, error) {
	for {
		most, err := s.admit()
		if err != nil {
			return 0, err
		}
		if s.atEnd() {
			return s.readAtEnd(p)
		}
		if len(s.ahead) == 0 {
			p := p[:s.readAtMost(len(p), most)]
			n, err := s.Stream.Read(p)
			if err != nil {
				return 0, err
			}
			passed := s.take(p[:n])
			s.ahead = bytes.Clone(p[passed:n])
			if passed > 0 {
				return passed, nil
			}
			continue
		}
		next := s.ahead[:min(len(p), len(s.ahead))]
		n := s.take(next)
		copy(p, next[:n])
		s.ahead = s.ahead[n:]
		if n > 0 {
			return n, nil
		}
	}
}

// readAtEnd is Read without limits but grace.
func (s *Stream) readAtEnd(p []byte) (n int, err error) {
	if s.grace > 0 {
		p = p[:min(len(p), s.grace)]
	} // else the client has gone, and what it has left is not much
	if len(s.ahead) > 0 {
		n = copy(p, s.ahead)
		s.ahead = s.ahead[n:]
	} else {
		n, err = s.Stream.Read(p)
	}
	s.grace -= n
	s.Count(p[:n])
	return n, err
}

// readAtMost returns how much to read into room, of which most may pass by its bytes. The
// rest of a frame that has begun passes as a whole.
func (s *Stream) readAtMost(room, most int) int {
	if known := s.meter.Remaining(); known < int64(room) {
		room = min(room, int(known)+s.readSize)
	}
	return max(1, min(room, most))
}

// take returns how much of p may pass. If the rest is to be refused, the next read does that.
func (s *Stream) take(p []byte) (n int) {
	n, s.refusal = s.meter.Take(p, time.Now())
	return n
}

// atEnd reports whether everything may pass.
func (s *Stream) atEnd() bool {
	select {
	case <-s.gone:
		return true
	default:
	}
	if s.grace <= 0 || s.refused {
		return s.grace > 0
	}
	select {
	case <-s.ending:
		return true
	default:
		return false
	}
}

// admit waits until more bytes may pass, and returns how many.
func (s *Stream) admit() (most int, err error) {
	for !s.atEnd() {
		if err := s.refusal; err != nil {
			s.refusal, s.refused = nil, true
			s.meter.Relax()
			return 0, err
		}
		var wait time.Duration
		if wait, most = s.meter.Until(s.ahead, time.Now()); wait == 0 {
			return most, nil
		}
		if err := s.pause(wait); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// pause waits for d, unless the reason to do so ends.
func (s *Stream) pause(d time.Duration) error {
	s.mu.Lock()
	stopped := s.stopped
	s.mu.Unlock()
	begun := time.Now()
	s.keepalive.Heard() // it is not the client that is silent
	defer func() {
		took := time.Since(begun)
		s.delayed.Add(int64(took))
		s.onDelay(took)
		s.keepalive.Listen()
	}()
	ending := s.ending
	if s.grace <= 0 { // it has been closed before
		ending = nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ending:
	case <-s.gone:
	case <-stopped:
		return os.ErrDeadlineExceeded
	}
	return nil
}

// Interrupt implements [stream.Stream].
func (s *Stream) Interrupt() {
	s.Stream.Interrupt()
	s.stop(false)
}

// Cut implements [stream.Stream].
func (s *Stream) Cut() {
	s.Stream.Cut()
	s.stop(true)
}

func (s *Stream) stop(forGood bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.isCut = s.isCut || forGood
	if !s.isStop {
		s.isStop = true
		close(s.stopped)
	}
}

// Resume implements [stream.Stream].
func (s *Stream) Resume() {
	s.Stream.Resume()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isStop && !s.isCut {
		s.isStop = false
		s.stopped = make(chan struct{})
	}
}
