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

// A Stream is a stream of a client's frames that a Meter holds back. Its reads fail with a
// [*ws.CloseError] once the client has sent what is to be refused, and then go on without
// limits.
type Stream struct {
	stream.Stream
	meter     *Meter
	keepalive *ws.Keepalive
	readSize  int             // the most that is read without knowing which frames it has
	ending    <-chan struct{} // closed when there are no more limits, since the session ends
	gone      <-chan struct{} // closed when the client is known to have gone
	onDelay   func(time.Duration)
	ahead     []byte // what was read and may not pass yet
	refused   bool
	delayed   atomic.Int64 // nanoseconds

	mu      sync.Mutex    // guards the following
	stopped chan struct{} // closed while reads are interrupted
	isStop  bool
	isCut   bool
}

// NewStream returns a Stream of what s brings. Keepalive learns when the client is held back,
// and so can't be heard. From when ending is closed there are no limits; a closed gone ends
// the waiting, too. Not much more than readSize bytes are read before they may pass. After
// each time that the client has been held back, onDelay is called with how long that was.
func NewStream(s stream.Stream, m *Meter, k *ws.Keepalive, readSize int, ending, gone <-chan struct{}, onDelay func(time.Duration)) *Stream {
	return &Stream{
		Stream: s, meter: m, keepalive: k, readSize: readSize, ending: ending, gone: gone, onDelay: onDelay, stopped: make(chan struct{}),
	}
}

// Delayed returns how long the client has been held back in all.
func (s *Stream) Delayed() time.Duration { return time.Duration(s.delayed.Load()) }

// Wait implements [stream.Stream].
func (s *Stream) Wait() error {
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
		if len(s.ahead) == 0 {
			n, err := s.Stream.Read(p[:s.readAtMost(len(p), most)])
			if err != nil || s.unlimited() {
				return n, err
			}
			if n, err = s.take(p[:n]); n > 0 || err != nil {
				return n, err
			}
			continue
		}
		if s.unlimited() {
			n := copy(p, s.ahead)
			s.ahead = s.ahead[n:]
			return n, nil
		}
		n, err := s.meter.Take(s.ahead[:min(len(p), len(s.ahead))], time.Now())
		copy(p, s.ahead[:n])
		s.ahead = s.ahead[n:]
		if n > 0 {
			return n, nil
		}
		if err != nil {
			return 0, s.refuse(err)
		}
	}
}

// readAtMost returns how much to read into room, of which most may pass by its bytes. The
// rest of a frame that has begun passes as a whole.
func (s *Stream) readAtMost(room, most int) int {
	if s.unlimited() {
		return room
	}
	if known := s.meter.Remaining(); known < int64(room) {
		room = min(room, int(known)+s.readSize)
	}
	return max(1, min(room, most))
}

// take returns how much of p, which has just been read, may pass. The rest is kept.
func (s *Stream) take(p []byte) (int, error) {
	n, err := s.meter.Take(p, time.Now())
	s.ahead = bytes.Clone(p[n:])
	if n == 0 && err != nil {
		return 0, s.refuse(err)
	}
	return n, nil // an error comes again
}

// refuse returns err, after which there are no limits: what follows is read for the sake of
// the client's Close frame.
func (s *Stream) refuse(err error) error {
	s.refused = true
	return err
}

// unlimited reports whether everything may pass.
func (s *Stream) unlimited() bool {
	if s.refused {
		return true
	}
	select {
	case <-s.ending:
		return true
	case <-s.gone:
		return true
	default:
		return false
	}
}

// admit waits until more bytes may pass, and returns how many.
func (s *Stream) admit() (most int, err error) {
	for !s.unlimited() {
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
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.ending:
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
