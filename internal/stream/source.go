package stream

import (
	"errors"
	"io"
	"os"
)

// A source makes of any reader one whose reads return bytes or an error, never
// both and never neither. io.Reader leaves it open: an empty DATA frame of HTTP/3
// is a read of nothing, and a last read may bring the error along.
type source struct {
	r   io.Reader
	err error // came with the last bytes
}

// maxEmptyReads is how many reads in a row may return nothing before the reader
// counts as broken.
const MaxEmptyReads = 1000

func (s *source) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	for range MaxEmptyReads {
		n, err := s.r.Read(p)
		if n > 0 {
			if !errors.Is(err, os.ErrDeadlineExceeded) { // which may be lifted until the next read
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
