package caddywebsocket

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(new(recheckRoute))
}

// recheckRoute is a handler that does what a test wants.
type recheckRoute struct{}

var onRecheck atomic.Pointer[caddyhttp.HandlerFunc]

func (*recheckRoute) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_recheck", New: func() caddy.Module { return new(recheckRoute) }}
}

func (*recheckRoute) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if err := (*onRecheck.Load())(w, r); err != errNext {
		return err
	}
	return next.ServeHTTP(w, r)
}

var errNext = errors.New("next")

// recheckHandler rechecks every minute by f.
func recheckHandler(f caddyhttp.HandlerFunc) *Handler {
	onRecheck.Store(&f)
	return &Handler{
		Mode: modePassthrough, KeepaliveInterval: -1, RecheckInterval: caddy.Duration(time.Minute),
		RecheckRoutes: caddyhttp.RouteList{{HandlersRaw: []json.RawMessage{json.RawMessage(`{"handler": "test_recheck"}`)}}},
	}
}

func status(code int) caddyhttp.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(code)
		return nil
	}
}

func failure(err error) caddyhttp.HandlerFunc {
	return func(http.ResponseWriter, *http.Request) error { return err }
}

func TestRecheck(t *testing.T) {
	for name, c := range map[string]struct {
		route caddyhttp.HandlerFunc
		stays bool
	}{
		"end of the route": {failure(errNext), true},
		"nothing":          {failure(nil), true},
		"200":              {status(200), true},
		"204":              {status(204), true},
		"302":              {status(302), false},
		"304":              {status(304), false},
		"401":              {status(401), false},
		"403":              {status(403), false},
		"500":              {status(500), true},
		"503":              {status(503), true},
		"error 401":        {failure(caddyhttp.Error(401, errors.New("who are you?"))), false},
		"error 502":        {failure(caddyhttp.Error(502, errors.New("down"))), true},
		"another error":    {failure(errors.New("down")), true},
		"abort":            {func(http.ResponseWriter, *http.Request) error { panic(http.ErrAbortHandler) }, false},
		"panic":            {func(http.ResponseWriter, *http.Request) error { panic("broken") }, true},
		"abort after 200": {func(w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(200)
			panic(http.ErrAbortHandler)
		}, true},
		"body without a status": {func(w http.ResponseWriter, _ *http.Request) error {
			_, err := fmt.Fprint(w, "welcome")
			return err
		}, true},
		"early hints": {func(w http.ResponseWriter, r *http.Request) error {
			w.WriteHeader(103)
			return status(403)(w, r)
		}, false},
		"two statuses": {func(w http.ResponseWriter, r *http.Request) error {
			w.WriteHeader(403)
			return status(200)(w, r)
		}, false},
		"no answer": {func(_ http.ResponseWriter, r *http.Request) error {
			<-r.Context().Done()
			return caddyhttp.Error(499, r.Context().Err())
		}, true},
		"an answer without an end": {func(w http.ResponseWriter, r *http.Request) error {
			w.WriteHeader(403)
			<-r.Context().Done()
			return nil
		}, false},
		"no hijacking": {func(w http.ResponseWriter, _ *http.Request) error {
			if _, _, err := http.NewResponseController(w).Hijack(); err == nil {
				w.WriteHeader(403)
			}
			return http.NewResponseController(w).Flush()
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			onEveryPipe(t, func(t *testing.T, extendedConnect bool) {
				_, app := tunnelPipe(t, recheckHandler(c.route), extendedConnect)
				defer app.Close()
				s := onlySession(t)
				time.Sleep(54*time.Second - time.Millisecond)
				synctest.Wait()
				if got := howEnded(s); got != (ending{}) {
					t.Fatalf("the session ended as %v before the interval", got)
				}
				time.Sleep(12*time.Second + recheckTimeout)
				synctest.Wait()
				got := howEnded(s)
				if want := (ending{by: byRecheck, code: 1008, reason: "no longer authorized"}); !c.stays && got != want {
					t.Errorf("the session ended as %v, want %v", got, want)
				} else if c.stays && got != (ending{}) {
					t.Errorf("the session ended as %v", got)
				}
			})
		})
	}
}

// A failure is followed by another try.
func TestRecheckAgain(t *testing.T) {
	onEveryPipe(t, func(t *testing.T, extendedConnect bool) {
		tries := 0
		h := recheckHandler(func(w http.ResponseWriter, r *http.Request) error {
			if tries++; tries < 100 {
				return caddyhttp.Error(502, errors.New("down"))
			}
			return status(401)(w, r)
		})
		h.RecheckInterval = caddy.Duration(time.Second)
		_, app := tunnelPipe(t, h, extendedConnect)
		defer app.Close()
		time.Sleep(89 * time.Second)
		synctest.Wait()
		if onlyEnded() {
			t.Error("the session ended although nothing was answered")
		}
		time.Sleep(21 * time.Second)
		synctest.Wait()
		if !onlyEnded() || tries != 100 {
			t.Errorf("the session is open after %d tries", tries)
		}
	})
}

// A handler that never returns holds no other session up, and isn't asked again.
func TestRecheckHangs(t *testing.T) {
	onEveryPipe(t, func(t *testing.T, extendedConnect bool) {
		var hanging atomic.Int64
		release := make(chan struct{})
		h := recheckHandler(func(http.ResponseWriter, *http.Request) error {
			hanging.Add(1)
			<-release
			return nil
		})
		_, app := tunnelPipe(t, h, extendedConnect)
		defer app.Close()
		s := onlySession(t)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := hanging.Load(); n != 1 {
			t.Errorf("%d rechecks of one session hang, want 1", n)
		}
		var ran atomic.Bool
		for range maxRechecks {
			h.rechecker.queue.Add(func() { ran.Store(true) })
		}
		synctest.Wait()
		if !ran.Load() {
			t.Error("others have to wait")
		}
		close(release)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := hanging.Load(); n < 2 || howEnded(s) != (ending{}) {
			t.Errorf("%d rechecks after the first one has returned; %v", n, howEnded(s))
		}
	})
}

// Of many sessions, only so many can have a handler that never returns.
func TestRechecksHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hanging atomic.Int64
		release := make(chan struct{})
		h := recheckHandler(func(http.ResponseWriter, *http.Request) error {
			hanging.Add(1)
			<-release
			return nil
		})
		provision(t, h)
		for range 100 {
			s := registered(h, httptest.NewRequest(http.MethodGet, "/", nil))
			defer s.recheck.stop()
			h.rechecker.queue.Add(s.recheck.run)
		}
		time.Sleep(time.Hour)
		if n := hanging.Load(); n > 2*maxRechecks {
			t.Errorf("%d handlers hang, want no more than %d", n, 2*maxRechecks)
		}
		close(release)
		synctest.Wait()
		if n := h.rechecker.hanging.Load(); n != 0 {
			t.Errorf("%d are counted when none hangs any more", n)
		}
	})
}

// Nothing is left of a session's rechecks when it ends while one is under way, or waits.
func TestRecheckEnds(t *testing.T) {
	onEveryPipe(t, func(t *testing.T, extendedConnect bool) {
		h := recheckHandler(func(_ http.ResponseWriter, r *http.Request) error {
			<-r.Context().Done()
			return nil
		})
		client, app := tunnelPipe(t, h, extendedConnect)
		s := onlySession(t)
		s.recheck.enqueue()
		synctest.Wait()
		client.Close()
		app.Close()
		s.recheck.stop()
		s.recheck.schedule()
		s.recheck.enqueue()
		s.plan(0, ending{by: byAdmin, code: 4000})
		time.Sleep(recheckTimeout)
	})
}

func TestPlainRequest(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "http://app.example/ws?room=1", nil)
	r.RemoteAddr = "192.0.2.1:1234"
	r.Header = http.Header{
		"Connection": {"Upgrade, X-Hop"}, "Upgrade": {"websocket"}, "X-Hop": {"by hop"}, "Cookie": {"session=ada"},
		"Sec-Websocket-Key": {"x"}, "Sec-Websocket-Protocol": {"chat"}, ":protocol": {"websocket"}, "Sec-Fetch-Site": {"same-origin"},
	}
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), httptest.NewRecorder(), nil)
	r.URL.Path, r.RequestURI = "/stripped", "/stripped"
	r.Method, r.ProtoMajor, r.ProtoMinor, r.Proto = http.MethodConnect, 3, 0, "websocket"
	plain := plainRequest(r)
	if plain.Method != http.MethodGet || plain.Proto != "HTTP/3.0" || plain.Host != "app.example" || plain.RemoteAddr != "192.0.2.1:1234" {
		t.Errorf("%s %s of %s from %s", plain.Method, plain.Proto, plain.Host, plain.RemoteAddr)
	}
	if want := (&url.URL{Scheme: "http", Host: "app.example", Path: "/ws", RawQuery: "room=1"}); *plain.URL != *want || plain.RequestURI != "http://app.example/ws?room=1" {
		t.Errorf("URL %s, URI %s", plain.URL, plain.RequestURI)
	}
	if len(plain.Header) != 2 || plain.Header.Get("Cookie") != "session=ada" || plain.Header.Get("Sec-Fetch-Site") != "same-origin" {
		t.Errorf("header %v", plain.Header)
	}
	if len(r.Header) != 8 {
		t.Errorf("the handshake's own header is now %v", r.Header)
	}
}
