package caddywebsocket

import (
	"io"
	"net/http"
	"net/http/httptest"
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

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// panics is a reader and writer of somebody's that is broken.
type panics struct{}

func (panics) Read([]byte) (int, error)  { panic("broken reader") }
func (panics) Write([]byte) (int, error) { panic("broken writer") }

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
		if n := len(sessions.find(nil)); n != 0 {
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
