package stream

import (
	"errors"
	"io"
	"os"
)

// A source wraps a reader so that each read returns bytes or an error, never both and
// never neither. An io.Reader may do either: an empty HTTP/3 DATA frame is a read of no
// bytes, and the last read may return both.
type source struct {
	r   io.Reader
	err error // returned by r together with bytes
}

// MaxEmptyReads is the number of consecutive reads that may return neither bytes nor
// an error before they end with [io.ErrNoProgress].
const MaxEmptyReads = 1000

func (s *source) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	for range MaxEmptyReads {
		n, err := s.r.Read(p)
		if n > 0 {
			if !errors.Is(err, os.ErrDeadlineExceeded) { // the deadline may have been lifted by the next read
				s.err = err
			}
			return n, nil
		}
		if err != nil || len(p) == 0 {
			return 0, err
		}
	}
	return 0, io.ErrNoProgress
}
