package caddywebsocket

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

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
