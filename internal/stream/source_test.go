package stream

import (
	"errors"
	"io"
	"os"
	"testing"
)

// A script is a reader that returns what it is told.
type script []struct {
	data string
	err  error
}

func (s *script) Read(p []byte) (int, error) {
	if len(*s) == 0 {
		return 0, io.EOF
	}
	step := (*s)[0]
	*s = (*s)[1:]
	return copy(p, step.data), step.err
}

func TestSource(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		script script
		want   []string
	}{
		"nothing, now and then": {script{{"", nil}, {"a", nil}, {"", nil}, {"", nil}, {"b", nil}}, []string{"a", "b", "EOF"}},
		"bytes and the end":     {script{{"a", io.EOF}, {"never", nil}}, []string{"a", "EOF", "EOF"}},
		"bytes and an error":    {script{{"a", broken}, {"never", nil}}, []string{"a", "broken", "broken"}},
		"an error":              {script{{"", broken}}, []string{"broken"}},
		"a deadline":            {script{{"", os.ErrDeadlineExceeded}, {"a", nil}}, []string{os.ErrDeadlineExceeded.Error(), "a"}},
		"bytes and a deadline":  {script{{"a", os.ErrDeadlineExceeded}, {"b", nil}}, []string{"a", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := source{r: &c.script}
			for i, want := range c.want {
				p := make([]byte, 10)
				n, err := s.Read(p)
				got := string(p[:n])
				if err != nil {
					got += err.Error()
				}
				if got != want {
					t.Errorf("read %d: got %q, want %q", i, got, want)
				}
			}
		})
	}
}

type emptyReader struct{}

func (emptyReader) Read([]byte) (int, error) { return 0, nil }

func TestSourceOfNothing(t *testing.T) {
	s := source{r: emptyReader{}}
	if n, err := s.Read(make([]byte, 1)); n != 0 || err != io.ErrNoProgress {
		t.Errorf("got %d, %v, want 0, %v", n, err, io.ErrNoProgress)
	}
}
