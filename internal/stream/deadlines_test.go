package stream

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// deadlines is a response writer that notes the read deadlines that are set.
type deadlines struct {
	http.ResponseWriter
	set []time.Time
}

func (d *deadlines) SetReadDeadline(at time.Time) error {
	d.set = append(d.set, at)
	return nil
}

// Reads set no deadline once the idle timeout is lifted, but can be interrupted.
func TestAllowLongReads(t *testing.T) {
	w := &deadlines{ResponseWriter: httptest.NewRecorder()}
	r := httptest.NewRequest(http.MethodConnect, "/", nil)
	reader := &caddyhttp.IdleTimeoutReader{
		ReadCloser: io.NopCloser(strings.NewReader("hello")), Ctrl: http.NewResponseController(w),
		Deadline: caddyhttp.IdleDeadline{Timeout: time.Minute}, ClearBetweenReads: true, Logger: zap.NewNop(),
	}
	r = r.WithContext(caddyhttp.ContextWithIdleTimeouts(r.Context(), reader, nil))
	AllowLongReads(r)
	b := NewBody(w, r, reader, time.Minute)
	p := make([]byte, 1)
	for range 5 {
		if _, err := b.Read(p); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(w.set, []time.Time{{}}) {
		t.Errorf("deadlines %v were set, want none, once", w.set)
	}
	if err := reader.SetReadDeadline(past); err != nil || !w.set[len(w.set)-1].Equal(past) {
		t.Errorf("deadlines %v were set, %v, want one that has passed", w.set, err)
	}
	if _, err := b.Read(p); !errors.Is(err, io.EOF) {
		t.Errorf("got %v at the end", err)
	}
}
