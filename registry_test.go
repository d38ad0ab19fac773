package caddywebsocket

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/stream"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// uncarried is a stream on a connection that an exit need not close.
type uncarried struct{ stream.Stream }

func (uncarried) Carrier() io.Closer { return nil }

// unscraped is what the sessions of registered count in.
var unscraped = newCollector().openAccount(scope{})

// registered is a session that has got as far as the registry.
func registered(h *Handler, r *http.Request) *session {
	s := newSession(h, r)
	s.stream, s.account = uncarried{}, unscraped
	return s
}

// A handler that is unloaded looks at its own sessions alone.
func TestUnloadPlansForItsOwn(t *testing.T) {
	g := newRegistry()
	first, second := new(Handler), new(Handler)
	for _, h := range []*Handler{first, first, second} {
		provision(t, h)
		s := registered(h, httptest.NewRequest(http.MethodGet, "/", nil))
		s.lifecycle.begin(func() {}, never)
		g.add(s)
	}
	g.unload(first)
	if n := first.app.retention.sessions; n != 2 {
		t.Errorf("%d sessions outlive their config, want 2", n)
	}
	for _, s := range g.list() {
		g.remove(s)
	}
	if len(g.retained) != 0 || len(g.byID) != 0 || len(g.byHandler) != 0 {
		t.Errorf("%d configs are retained, %d sessions are listed for %d handlers", len(g.retained), len(g.byID), len(g.byHandler))
	}
	for !g.watchesNothing() {
		time.Sleep(time.Millisecond)
	}
}

func (g *registry) watchesNothing() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.watching
}

func TestListIsInOrder(t *testing.T) {
	g := newRegistry()
	var want []*session
	for i := range 100 {
		s := &session{id: fmt.Sprint(i), handler: new(Handler), stream: uncarried{}, account: unscraped}
		g.add(s)
		want = append(want, s)
	}
	for i, s := range g.list() {
		if s != want[i] || g.get(s.id) != s {
			t.Fatalf("session %d is %s", i, s.id)
		}
	}
	for i, s := range want {
		if i%10 != 0 {
			g.remove(s)
		}
	}
	for i, s := range g.list() {
		if s != want[i*10] {
			t.Fatalf("session %d is %s", i, s.id)
		}
	}
	if n := len(g.ordered); n >= 20 {
		t.Errorf("there is room for %d sessions, of which 10 are left", n)
	}
	if g.get("none") != nil {
		t.Error("there is a session that nobody added")
	}
}

func TestDrainSpreads(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRegistry()
		ends := make(map[time.Duration]bool)
		start := time.Now()
		var peers []*wstest.Peer
		for range 20 {
			h := &Handler{KeepaliveInterval: -1}
			peers = append(peers, pipe(t, h))
		}
		synctest.Wait()
		for _, s := range sessions.list() {
			g.ordered = append(g.ordered, s)
			g.byID[s.id] = s
		}
		g.drain(time.Minute)
		done := make(chan time.Duration)
		for _, peer := range peers {
			go func() {
				peer.ExpectClose(1012, "")
				ended := time.Since(start)
				peer.SendClose(1012, "")
				done <- ended
			}()
		}
		for range peers {
			ends[<-done] = true
		}
		if took := time.Since(start); len(ends) < 10 || took < 30*time.Second || took > time.Minute {
			t.Errorf("the sockets ended at %d moments within %v", len(ends), took)
		}
	})
}

// Of many earlier configs, the sockets of the oldest are closed.
func TestRetainedConfigsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRegistry()
		var list []*session
		for range maxRetained + 2 {
			h := new(Handler)
			provision(t, h)
			for range 2 {
				s := registered(h, httptest.NewRequest(http.MethodGet, "/", nil))
				s.lifecycle.begin(func() {}, never)
				g.add(s)
				list = append(list, s)
			}
			g.unload(h)
		}
		late := registered(list[0].handler, httptest.NewRequest(http.MethodGet, "/", nil))
		late.lifecycle.begin(func() {}, never)
		g.add(late)
		for i, s := range append(list, late) {
			s.mu.Lock()
			planned, ending := s.deadline, s.ending
			s.mu.Unlock()
			switch ends := i < 4 || s == late; {
			case ends && (ending.by != byReload || ending.code != 1012 || time.Until(planned) > reloadWait):
				t.Errorf("session %d ends at %v as %v", i, planned, ending)
			case !ends && !planned.IsZero():
				t.Errorf("session %d ends at %v", i, planned)
			}
		}
		if n := g.retainedConfigs(); n != maxRetained+2 {
			t.Errorf("%d configs are retained, want %d", n, maxRetained+2)
		}
		g.remove(late)
		for _, s := range list[:5] {
			g.remove(s)
		}
		if n := g.retainedConfigs(); n != maxRetained {
			t.Errorf("%d configs are retained, want %d", n, maxRetained)
		}
		for _, s := range list[5:] {
			g.remove(s)
		}
		time.Sleep(2 * exitPoll) // until nobody watches for an exit
		if n := g.retainedConfigs(); n != 0 {
			t.Errorf("%d configs are retained, want none", n)
		}
	})
}
