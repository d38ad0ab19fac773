package caddywebsocket

import (
	"slices"
	"time"
)

// maxRetained is how many earlier configs the open sockets may keep in memory. A socket
// keeps all of the config under which its handler runs, and some setups reload every
// minute.
const maxRetained = 100

// A retention is what the registry knows about a config that was replaced. The registry's
// lock guards it.
type retention struct {
	sessions int  // that are open
	ended    bool // the end of all of them is planned, because there are newer ones enough
}

// retainLocked counts a session whose config was replaced.
func (g *registry) retainLocked(s *session) {
	config := &s.handler.app.retention
	if config.sessions++; config.sessions == 1 {
		g.retained = append(g.retained, s.handler.app)
		g.limitRetainedLocked()
	}
	if config.ended {
		s.planReload()
	}
}

// releaseLocked is retainLocked's counterpart.
func (g *registry) releaseLocked(s *session) {
	config := &s.handler.app.retention
	if config.sessions--; config.sessions == 0 {
		at := slices.Index(g.retained, s.handler.app)
		g.retained = slices.Delete(g.retained, at, at+1)
	}
}

// limitRetainedLocked plans the end of the sessions of the oldest configs, if there are
// more than maxRetained.
func (g *registry) limitRetainedLocked() {
	for _, a := range g.retained[:max(0, len(g.retained)-maxRetained)] {
		if a.retention.ended {
			continue
		}
		a.retention.ended = true
		for h, list := range g.byHandler {
			if h.app != a {
				continue
			}
			for s := range list {
				s.planReload()
			}
		}
	}
}

// retainedConfigs returns how many earlier configs open sessions keep in memory.
func (g *registry) retainedConfigs() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.retained)
}

// reloadWait is how long sockets that a reload ends stay open at most, unless close_delay
// says otherwise.
const reloadWait = 10 * time.Second

// planReload plans the end of a session that can't go on under a newer config.
func (s *session) planReload() {
	wait := reloadWait
	if delay := time.Duration(s.handler.CloseDelay); delay > 0 {
		wait = delay
	}
	s.plan(spreadOver(wait), s.handler.ending(byReload))
}
