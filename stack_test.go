package caddywebsocket

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"
)

// A panic is raised where the HTTP server recovers it, since elsewhere it would
// end the process, and says where it came from.
func TestOnOwnStackPanics(t *testing.T) {
	defer func() {
		if s, _ := recover().(string); !strings.HasPrefix(s, "broken\n") || !strings.Contains(s, "breakHandler") {
			t.Errorf("recovered %q", s)
		}
	}()
	onOwnStack(breakHandler)
	t.Error("onOwnStack returned")
}

// The panic of an error is one of that error.
func TestOnOwnStackPanicsWithError(t *testing.T) {
	defer func() {
		if err, _ := recover().(error); !errors.Is(err, io.ErrNoProgress) {
			t.Errorf("recovered %v, want %v", err, io.ErrNoProgress)
		}
	}()
	onOwnStack(func() { panic(io.ErrNoProgress) })
	t.Error("onOwnStack returned")
}

func breakHandler() { panic("broken") }

// The panic of a handler that wants the response aborted stays what it is.
func TestOnOwnStackAborts(t *testing.T) {
	defer func() {
		if r := recover(); r != http.ErrAbortHandler {
			t.Errorf("recovered %v, want %v", r, http.ErrAbortHandler)
		}
	}()
	onOwnStack(func() { panic(http.ErrAbortHandler) })
	t.Error("onOwnStack returned")
}

// A panic of anybody's gives back what a socket counts for, and ends its session.
func TestPanicsCountOut(t *testing.T) {
	broken := caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { panic("broken") })
	for name, c := range map[string]struct {
		mode        string
		w           http.ResponseWriter
		placeholder caddy.ReplacerFunc
		log         func(zapcore.Entry) error
	}{
		"response writer": {mode: modeEcho, w: panickingWriter{httptest.NewRecorder()}},
		"next handler":    {mode: modePassthrough, w: httptest.NewRecorder()},
		"placeholder": {
			mode: modeEcho, w: httptest.NewRecorder(),
			placeholder: func(string) (any, bool) { panic("broken") },
		},
		"log of an open socket":  {mode: modeEcho, w: leftPipe(), log: panicAt("socket opened")},
		"log of a closed socket": {mode: modeEcho, w: leftPipe(), log: panicAt("socket closed")},
	} {
		t.Run(name, func(t *testing.T) {
			awaitNoSessions(t)
			h := &Handler{Mode: c.mode, MaxConnections: 1, AllowedOrigins: []string{"*"}}
			provision(t, h)
			if c.log != nil {
				h.logger = zaptest.NewLogger(t, zaptest.WrapOptions(zap.Hooks(c.log)))
			}
			repl := caddy.NewReplacer()
			if c.placeholder != nil {
				repl.Map(c.placeholder)
			}
			r := http1Request(&http.Request{ProtoMajor: 3}, false)
			r.ProtoMajor, r.ProtoMinor, r.URL = 1, 1, new(url.URL)
			r = r.WithContext(context.WithValue(t.Context(), caddy.ReplacerCtxKey, repl))
			defer func() {
				if recover() == nil {
					t.Error("nothing panicked")
				}
				if open := sessions.find(nil); len(open) > 0 {
					t.Errorf("%d sessions are open, want none", len(open))
				}
				if h.limiter.counts.open != 0 {
					t.Errorf("%d sockets are counted, want none", h.limiter.counts.open)
				}
			}()
			_ = h.ServeHTTP(c.w, r, broken)
		})
	}
}

// leftPipe is a response to a client that has left.
func leftPipe() http.ResponseWriter {
	conn, client := net.Pipe()
	client.Close()
	return &pipeResponse{conn: conn, header: http.Header{}}
}

// panicAt is a log that panics at a message.
func panicAt(message string) func(zapcore.Entry) error {
	return func(e zapcore.Entry) error {
		if e.Message == message {
			panic("broken")
		}
		return nil
	}
}

// A panickingWriter panics as a handler does that wants the response aborted.
type panickingWriter struct{ http.ResponseWriter }

func (panickingWriter) WriteHeader(int) { panic(http.ErrAbortHandler) }
