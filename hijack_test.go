package caddywebsocket

import (
	"net/http"
	"testing"
)

// A panickingWriter panics as a handler does that wants the response aborted.
type panickingWriter struct{ http.ResponseWriter }

func (panickingWriter) WriteHeader(int) { panic(http.ErrAbortHandler) }

func TestHijackPanics(t *testing.T) {
	defer func() {
		if r := recover(); r != http.ErrAbortHandler {
			t.Errorf("recovered %v, want %v", r, http.ErrAbortHandler)
		}
	}()
	_, err := hijack(panickingWriter{}, nil, 0)
	t.Errorf("hijack returned %v", err)
}
