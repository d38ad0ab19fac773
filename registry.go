package caddywebsocket

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-21dbdb71/caddy-websocket/internal/stream"
)

// sessions are all open sockets of the process, whatever config they began
// under.
var sessions = newRegistry()

// carried are what carries sockets of any config, or has carried some.
var carried stream.Carriers

func init() {
	// For sockets of an earlier config when the last one has no handler of ours.
	caddy.OnExit(func(ctx context.Context) {
		sessions.closeAll()
		sessions.wait(ctx)
	})
}

// A registry knows the open sessions. Its lock is held for what takes no longer
// with many of them, or no more than a copy of the list: handshakes wait for it,
// and sockets that end.
type registry struct {
	mu        sync.Mutex // guards the following, and the tallies of accounts
	ordered   []*session // by age, the oldest first; nil where one has ended
	byID      map[string]*session
	byHandler map[*Handler]map[*session]struct{}
	retained  []*app        // earlier configs with open sessions, by when they were replaced
	exit      chan struct{} // closed when the process begins to exit: no more sockets
	empty     chan struct{} // closed when the last session is; nil if nobody waits
	watching  bool          // watchExit is scheduled
	drained   time.Time     // when drain's time is over
	inventory *inventory    // of the config that was loaded last; nil for none yet
}

func newRegistry() *registry {
	return &registry{
		byID:      make(map[string]*session),
		byHandler: make(map[*Handler]map[*session]struct{}),
		exit:      make(chan struct{}),
	}
}

// add takes a session in. What has become of its config or of the process since
// its handshake began applies to it, too.
func (g *registry) add(s *session) {
	g.mu.Lock()
	g.enterLocked(s)
	exiting, drained, inventory := g.exiting(), g.drained, g.inventory
	unloaded := s.handler.unloaded
	var over []*session
	if unloaded {
		over = g.retainLocked(s.handler.app, s)
	}
	g.mu.Unlock()
	carried.Add(s.stream)
	planReload(over)
	if exiting {
		s.plan(0, s.handler.ending(byShutdown))
		return
	}
	if left := time.Until(drained); left > 0 {
		s.plan(spreadOver(left), s.handler.ending(byShutdown))
	}
	if unloaded {
		s.outlive()
		s.reconcile(inventory)
	}
}

// enterLocked adds a session to the lists.
func (g *registry) enterLocked(s *session) {
	g.byID[s.id] = s
	if g.byHandler[s.handler] == nil {
		g.byHandler[s.handler] = make(map[*session]struct{})
	}
	g.byHandler[s.handler][s] = struct{}{}
	s.place = len(g.ordered)
	g.ordered = append(g.ordered, s)
}

func (g *registry) remove(s *session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.byID[s.id] != s {
		return // a panic has kept it from being added
	}
	g.ordered[s.place] = nil
	if delete(g.byID, s.id); len(g.byID) < len(g.ordered)/2 {
		g.closeGapsLocked()
	}
	delete(g.byHandler[s.handler], s)
	if len(g.byHandler[s.handler]) == 0 {
		delete(g.byHandler, s.handler)
	}
	if s.handler.unloaded {
		g.releaseLocked(s)
	}
	s.account.ended.add(s)
	if len(g.byID) == 0 && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
}

// closeGapsLocked moves the open sessions together.
func (g *registry) closeGapsLocked() {
	g.ordered = withoutGaps(g.ordered)
	for i, s := range g.ordered {
		s.place = i
	}
}

func withoutGaps(list []*session) []*session {
	return slices.DeleteFunc(list, func(s *session) bool { return s == nil })
}

// list returns the open sessions, the oldest first.
func (g *registry) list() []*session {
	g.mu.Lock()
	list := slices.Clone(g.ordered)
	g.mu.Unlock()
	return withoutGaps(list)
}

// open returns how many sessions are open.
func (g *registry) open() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.byID)
}

// get returns an open session, nil if there is none of that id.
func (g *registry) get(id string) *session {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.byID[id]
}

// closeAll begins the closing handshake on all sockets, for the process is
// about to exit.
func (g *registry) closeAll() {
	if !g.beginExit() {
		return
	}
	for _, s := range g.list() { // add sees to those that are not in it yet
		s.plan(0, s.handler.ending(byShutdown))
	}
	carried.CloseAfter(2 * closeWait)
}

// beginExit reports whether the process has not begun to exit before.
func (g *registry) beginExit() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.exiting() {
		return false
	}
	close(g.exit)
	return true
}

// exiting reports whether the process has begun to exit.
func (g *registry) exiting() bool {
	select {
	case <-g.exit:
		return true
	default:
		return false
	}
}

// drain spreads the ends of all sessions over d, for the process is about to exit
// after that.
func (g *registry) drain(d time.Duration) {
	g.mu.Lock()
	g.drained = time.Now().Add(d)
	g.mu.Unlock()
	for _, s := range g.list() {
		s.plan(spreadOver(d), s.handler.ending(byShutdown))
	}
}

// wait waits until all sockets have closed, which after closeAll takes no
// longer than closeWait and a moment.
func (g *registry) wait(ctx context.Context) {
	g.mu.Lock()
	if len(g.byID) == 0 {
		g.mu.Unlock()
		return
	}
	if g.empty == nil {
		g.empty = make(chan struct{})
	}
	empty := g.empty
	g.mu.Unlock()
	timeout := time.NewTimer(closeWait + time.Second)
	defer timeout.Stop()
	select {
	case <-empty:
	case <-timeout.C:
	case <-ctx.Done():
	}
	// The handlers around ours, the access log above all, have yet to return.
	time.Sleep(handlerExitTime)
}

// handlerExitTime is how long the last handlers get for what they do when a socket
// has closed.
const handlerExitTime = 50 * time.Millisecond

// unload lets go of a handler whose config was replaced. Its sockets live on,
// for close_delay if that is set.
func (g *registry) unload(h *Handler) {
	g.mu.Lock()
	h.unloaded = true
	list := slices.Collect(maps.Keys(g.byHandler[h]))
	over := g.retainLocked(h.app, list...)
	if carried.HasServers() {
		g.watchLocked()
	}
	g.mu.Unlock()
	planReload(over)
	for _, s := range list {
		s.outlive()
	}
}

// outlive plans the end of a session that outlives its config, if close_delay is set.
func (s *session) outlive() {
	if delay := time.Duration(s.handler.CloseDelay); delay > 0 {
		s.plan(spread(delay), s.handler.ending(byReload))
	}
}

// exitPoll is how often the process is looked at on behalf of sockets whose config is no
// longer loaded, and of the servers of such.
const exitPoll = 250 * time.Millisecond

func (g *registry) watchLocked() {
	if !g.watching {
		g.watching = true
		time.AfterFunc(exitPoll, g.watchExit)
	}
}

// watchExit closes all sockets when the process exits. A loaded handler is told
// when its server shuts down. Nobody tells the sockets of earlier configs if
// the last one has no handler of ours, and an exit waits for those on HTTP/2
// and HTTP/3, and for HTTP/3 servers, without an end.
func (g *registry) watchExit() {
	if caddy.Exiting() {
		g.closeAll()
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.watching = false
	if len(g.retained) > 0 || carried.HasServers() {
		g.watchLocked()
	}
}

// closeOnExit has all sockets closed when srv shuts down because the process
// exits. That has to begin before Caddy waits for the requests on HTTP/2 and
// HTTP/3, and to end before it closes the logs.
func closeOnExit(srv *caddyhttp.Server) {
	srv.RegisterOnShutdown(func() {
		if caddy.Exiting() {
			sessions.closeAll()
		}
	})
	srv.RegisterOnStop(func(ctx context.Context) error {
		if caddy.Exiting() {
			sessions.closeAll()
			sessions.wait(ctx)
		}
		return nil
	})
}
