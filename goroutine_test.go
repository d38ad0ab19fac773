package caddywebsocket

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"

	"github.com/seed-21dbdb71/caddy-websocket/internal/limit"
	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// panics is a reader and writer of somebody's that is broken.
type panics struct{}

func (panics) Read([]byte) (int, error)  { panic("broken reader") }
func (panics) Write([]byte) (int, error) { panic("broken writer") }

// A session that panics as it begins leaves the others alone.
func TestPanicAsASessionBegins(t *testing.T) {
	h := &Handler{AllowedOrigins: []string{"*"}}
	provision(t, h)
	open := registered(h, httptest.NewRequest(http.MethodGet, "/", nil))
	sessions.add(open)
	defer sessions.remove(open)
	repl := caddy.NewEmptyReplacer()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	broken := newSession(h, r.WithContext(context.WithValue(r.Context(), caddy.ReplacerCtxKey, repl)))
	repl.Map(func(string) (any, bool) { panic("broken placeholder") })
	func() {
		defer func() { _ = recover() }()
		defer broken.finish()
		broken.begin(uncarried{})
	}()
	if list := sessions.list(); !slices.Contains(list, open) || slices.Contains(list, broken) {
		t.Errorf("%d sessions are listed, want the one that is open", len(list))
	}
}

// A panic on a goroutine that nobody recovers ends the session, not the process.
func TestPanicsEndTheSession(t *testing.T) {
	for name, use := range map[string]func(conn io.ReadWriter) error{
		"ReadFrom": func(conn io.ReadWriter) error {
			// What is broken here is the log.
			conn.(*tunnelConn).handler.logger = zaptest.NewLogger(t, zaptest.WrapOptions(zap.Hooks(func(e zapcore.Entry) error {
				if e.Message == "socket not supervised any more" || e.Message == "panic while serving a socket" {
					panic("broken log")
				}
				return nil
			})))
			_, err := conn.(io.ReaderFrom).ReadFrom(strings.NewReader("no frames"))
			return err
		},
		"WriteTo": func(conn io.ReadWriter) error {
			_, err := conn.(io.WriterTo).WriteTo(panics{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var s *session
				client := tunnelTo(t, &Handler{Mode: modePassthrough}, func(conn io.ReadWriteCloser) {
					s = conn.(*tunnelConn).session
					if err := use(conn); err != errPanicked {
						t.Errorf("got %v, want %v", err, errPanicked)
					}
					conn.Close()
				})
				_, _ = client.Write(wstest.ClientFrame(ws.FinBit|byte(ws.OpText), []byte("for the writer")))
				synctest.Wait()
				if howEnded(s).by != byError || howEnded(s).code != 1006 {
					t.Errorf("the session ended as %v", howEnded(s))
				}
			})
		})
	}
}

// The same for the timer's: what panics here is the connection, when a Ping is
// written.
func TestPanicOfAPing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &Handler{KeepaliveInterval: caddy.Duration(time.Minute)}
		provision(t, h)
		s := newSession(h, httptest.NewRequest(http.MethodGet, "/", nil))
		conn := new(panickingStream)
		s.begin(conn)
		time.Sleep(time.Hour)
		synctest.Wait()
		if howEnded(s).by != byError || !conn.wasCut.Load() {
			t.Errorf("the session ended as %v, cut is %t", howEnded(s), conn.wasCut.Load())
		}
		s.finish()
		if n := len(sessions.list()); n != 0 {
			t.Errorf("%d sessions are open", n)
		}
	})
}

// A panickingStream is a stream that can't be written to.
type panickingStream struct {
	panics
	wasCut atomic.Bool
}

func (*panickingStream) Carrier() io.Closer      { return nil }
func (*panickingStream) HasServerTimeouts() bool { return false }
func (*panickingStream) Wait() error             { return io.EOF }
func (*panickingStream) CloseWrite(bool) bool    { return false }
func (*panickingStream) Interrupt()              {}
func (*panickingStream) Resume()                 {}
func (s *panickingStream) Cut()                  { s.wasCut.Store(true) }
func (*panickingStream) Close() error            { return nil }

// An error that isn't there is one all the same.
func TestEndingOfNothing(t *testing.T) {
	h := new(Handler)
	provision(t, h)
	s := newSession(h, httptest.NewRequest(http.MethodGet, "/", nil))
	if e := s.endingOf(nil); e.by != byClient || e.code != 1006 {
		t.Errorf("got %v", e)
	}
}

// tunnelTo makes a tunnel to an application that does as it likes with its end.
func tunnelTo(t *testing.T, h *Handler, app func(io.ReadWriteCloser)) (client *tunnelEnd) {
	t.Helper()
	return tunnelPipeTo(t, h, false, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		conn, err := take(w, r)
		if err == nil {
			app(conn)
		}
		return err
	}))
}

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
			r := handshakeRequest().WithContext(context.WithValue(t.Context(), caddy.ReplacerCtxKey, repl))
			defer func() {
				if recover() == nil {
					t.Error("nothing panicked")
				}
				if open := sessions.list(); len(open) > 0 {
					t.Errorf("%d sessions are open, want none", len(open))
				}
				if exceeded, open := h.connections.Acquire([]limit.Claim{{Key: byHandler, Max: 1}}); exceeded != nil {
					t.Errorf("%d sockets are counted, want none", open)
				}
			}()
			_ = h.ServeHTTP(c.w, r, broken)
		})
	}
}

// handshakeRequest is a handshake on HTTP/1.1.
func handshakeRequest() *http.Request {
	return &http.Request{
		Method: http.MethodGet, ProtoMajor: 1, ProtoMinor: 1, URL: new(url.URL),
		Header: http.Header{
			"Connection":            {"Upgrade"},
			"Upgrade":               {"websocket"},
			"Sec-Websocket-Version": {"13"},
			"Sec-Websocket-Key":     {"dGhlIHNhbXBsZSBub25jZQ=="},
		},
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
