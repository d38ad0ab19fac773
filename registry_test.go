package caddywebsocket

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-21dbdb71/caddy-websocket/internal/stream"
	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
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

// The list of sessions is written as the client reads it, and holds up no socket meanwhile.
func TestListStreams(t *testing.T) {
	awaitNoSessions(t)
	c := newCrowd(t)
	c.open(100)
	all := sessions.list()
	body, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.askFor(pipedResponse{discarded{}, w}, http.MethodGet, "")
		w.Close()
	}()
	list := json.NewDecoder(body)
	next := func() string {
		var s struct {
			ID      string
			Expires string `json:"expires_at"`
		}
		if !list.More() || list.Decode(&s) != nil {
			t.Fatal("the list ends early")
		}
		return s.ID + s.Expires
	}
	if _, err := list.Token(); err != nil {
		t.Fatal(err)
	}
	if got := next(); got != all[0].id {
		t.Errorf("the first session is %q, want %q", got, all[0].id)
	}
	c.open(1)
	c.close()
	at := time.Unix(4e9, 0)
	all[99].expires = at
	for _, s := range all[1:99] {
		if got := next(); got != s.id {
			t.Errorf("got session %q, want %q", got, s.id)
		}
	}
	if got, want := next(), all[99].id+formatExpiry(at); got != want {
		t.Errorf("the last session is %q, want %q", got, want)
	}
	if end, err := list.Token(); end != json.Delim(']') {
		t.Errorf("the list ends with %v, %v", end, err)
	}
	<-done
}

// It isn't written for a client that has left.
func TestListStops(t *testing.T) {
	awaitNoSessions(t)
	c := newCrowd(t)
	c.open(10)
	for name, query := range map[string]string{"left": "", "limit": "?limit=1"} {
		t.Run(name, func(t *testing.T) {
			body, w := io.Pipe()
			wrote := 0
			done := make(chan struct{})
			go func() {
				defer close(done)
				c.askFor(countedResponse{pipedResponse{discarded{}, w}, &wrote}, http.MethodGet, query)
				w.Close()
			}()
			if name == "left" {
				_, _ = body.Read(make([]byte, 1))
				body.Close()
			} else if p, err := io.ReadAll(body); err != nil || bytes.Count(p, []byte(`"id"`)) != 1 {
				t.Errorf("%s, %v", p, err)
			}
			<-done
			if wrote > 4 {
				t.Errorf("%d writes", wrote)
			}
		})
	}
}

// A pipedResponse is a response whose client reads from a pipe.
type pipedResponse struct {
	http.ResponseWriter
	w *io.PipeWriter
}

func (r pipedResponse) Write(p []byte) (int, error) { return r.w.Write(p) }

// A countedResponse counts the writes.
type countedResponse struct {
	http.ResponseWriter
	writes *int
}

func (r countedResponse) Write(p []byte) (int, error) {
	*r.writes++
	return r.ResponseWriter.Write(p)
}

// A scrape misses no session that ends meanwhile, and counts none twice.
func TestTotalsUnderChurn(t *testing.T) {
	const sockets, each = 4, 2000
	g, h, a := newRegistry(), new(Handler), newCollector().openAccount(scope{})
	var sent, counted atomic.Int64 // messages, before and after a session has counted them
	var churn sync.WaitGroup
	for range sockets {
		churn.Go(func() {
			for range each {
				s := registered(h, httptest.NewRequest(http.MethodGet, "/", nil))
				s.account = a
				g.add(s)
				sent.Add(1)
				s.received.Add(1, 1)
				counted.Add(1)
				g.remove(s)
			}
		})
	}
	for last := int64(0); last < sockets*each; {
		least := counted.Load()
		got := g.tallies([]*account{a})[a].received.messages
		most := sent.Load()
		if got < max(least, last) || got > most {
			t.Fatalf("%d messages, want %d to %d", got, max(least, last), most)
		}
		last = got
	}
	churn.Wait()
	if n := len(g.list()); n != 0 {
		t.Errorf("%d sessions are open", n)
	}
}

// BenchmarkCrowd is what it takes to look at all sessions of the process, and to close them.
// Besides, ms-waited is how long a handshake, or a socket that ends, waits for the registry
// meanwhile: the longest wait of an iteration, in the median iteration.
func BenchmarkCrowd(b *testing.B) {
	for _, n := range []int{1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := newCrowd(b)
			before := memory()
			c.open(n)
			after := memory()
			b.Run("scrape", func(b *testing.B) {
				registry := prometheus.NewRegistry()
				registry.MustRegister(metrics)
				c.measure(b, 0, func() {
					if _, err := registry.Gather(); err != nil {
						b.Fatal(err)
					}
				})
				b.ReportMetric(float64(after.heap-before.heap)/float64(n), "heap-B/session")
				b.ReportMetric(float64(after.stack-before.stack)/float64(n), "stack-B/session")
			})
			b.Run("list", func(b *testing.B) {
				c.measure(b, 0, func() { c.ask(http.MethodGet, "") })
			})
			b.Run("filter", func(b *testing.B) {
				c.measure(b, 0, func() { c.ask(http.MethodGet, "?user_id=nobody") })
			})
			c.close()
			b.Run("close", func(b *testing.B) {
				c.measure(b, n, func() { c.ask(http.MethodDelete, "?mode=echo"); c.served.Wait() })
			})
			b.Run("spread", func(b *testing.B) {
				c.measure(b, n, func() { c.ask(http.MethodDelete, "?mode=echo&over=1h&fraction=0.5") })
			})
			b.Run("drain", func(b *testing.B) {
				c.measure(b, n, func() { sessions.drain(time.Hour) })
			})
			b.Run("unload", func(b *testing.B) {
				c.handler.CloseDelay = caddy.Duration(time.Hour)
				c.measure(b, n, func() { sessions.unload(c.handler) })
			})
		})
	}
}

type memoryUse struct{ heap, stack uint64 }

// memory returns how much memory is in use, in bytes.
func memory() memoryUse {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return memoryUse{m.HeapAlloc, m.StackInuse}
}

// A crowd are many sockets of one handler, whose clients only answer Close frames.
type crowd struct {
	t       testing.TB
	handler *Handler
	conns   []*quietConn
	served  sync.WaitGroup
}

// upstreams is how many scopes the sessions of a crowd have.
const upstreams = 8

func newCrowd(t testing.TB) *crowd {
	c := &crowd{t: t, handler: new(Handler)}
	provision(t, c.handler)
	scopes := make(map[scope]bool)
	for i := range upstreams {
		scopes[scope{mode: modeEcho, upstream: upstreamName(i)}] = true
	}
	c.handler.app.inventory = func() *inventory { return &inventory{scopes: scopes} }
	t.Cleanup(c.close)
	return c
}

func upstreamName(i int) string { return fmt.Sprintf("10.0.0.%d:3000", i%upstreams) }

// open opens n sockets.
func (c *crowd) open(n int) {
	for range n {
		i := len(c.conns)
		r := handshakeRequest()
		r.Host, r.URL.Path = "localhost", "/chat"
		repl := caddy.NewEmptyReplacer()
		repl.Set("http.reverse_proxy.upstream.hostport", upstreamName(i))
		r = r.WithContext(context.WithValue(c.t.Context(), caddy.ReplacerCtxKey, repl))
		conn := &quietConn{ending: make(chan struct{})}
		c.conns = append(c.conns, conn)
		c.served.Go(func() {
			if err := c.handler.ServeHTTP(&pipeResponse{conn: conn, header: http.Header{}}, r, nil); err != nil {
				c.t.Error(err)
			}
		})
	}
	for sessions.open() < len(c.conns) {
		time.Sleep(time.Millisecond)
	}
}

// close has all clients leave and waits until the handler has noticed.
func (c *crowd) close() {
	for _, conn := range c.conns {
		conn.end()
	}
	c.conns = nil
	c.served.Wait()
}

// ask calls the admin API.
func (c *crowd) ask(method, query string) { c.askFor(discarded{}, method, query) }

// askFor calls the admin API on behalf of a client.
func (c *crowd) askFor(w http.ResponseWriter, method, query string) {
	err := new(adminAPI).serveAll(w, httptest.NewRequest(method, sessionsPath+query, nil))
	if err != nil {
		c.t.Error(err)
	}
}

// discarded is a response that nobody reads.
type discarded struct{}

func (discarded) Header() http.Header         { return http.Header{} }
func (discarded) WriteHeader(int)             {}
func (discarded) Write(p []byte) (int, error) { return len(p), nil }

// measure measures do with n sockets that are opened for it, and how long others wait for the
// registry meanwhile.
func (c *crowd) measure(b *testing.B, n int, do func()) {
	var waits []float64
	for b.Loop() {
		b.StopTimer()
		c.open(n)
		runtime.GC()
		started, stop, longest := make(chan struct{}), make(chan struct{}), make(chan time.Duration)
		go func() { longest <- c.longestWait(started, stop) }()
		<-started
		b.StartTimer()
		do()
		b.StopTimer()
		close(stop)
		waits = append(waits, (<-longest).Seconds()*1e3)
		if n > 0 {
			c.close()
			sessions.drained, c.handler.unloaded = time.Time{}, false
		}
		b.StartTimer()
	}
	slices.Sort(waits)
	b.ReportMetric(waits[len(waits)/2], "ms-waited")
}

// longestWait adds a session and removes it, over and over, and returns how long that took
// at most.
func (c *crowd) longestWait(started, stop chan struct{}) (longest time.Duration) {
	s := registered(&Handler{app: new(app)}, httptest.NewRequest(http.MethodGet, "/", nil))
	close(started)
	for {
		start := time.Now()
		sessions.add(s)
		added := time.Now()
		sessions.remove(s)
		longest = max(longest, added.Sub(start), time.Since(added))
		select {
		case <-stop:
			return longest
		case <-time.After(100 * time.Microsecond):
		}
	}
}

// A quietConn is a connection whose client sends nothing but the answer to a Close frame.
type quietConn struct {
	net.Conn
	ending chan struct{}
	once   sync.Once
	answer []byte
}

func (c *quietConn) end() { c.once.Do(func() { close(c.ending) }) }

func (c *quietConn) Write(p []byte) (int, error) {
	if p[0] == ws.FinBit|byte(ws.OpClose) {
		c.once.Do(func() {
			c.answer = wstest.ClientFrame(ws.FinBit|byte(ws.OpClose), nil)
			close(c.ending)
		})
	}
	return len(p), nil
}

func (c *quietConn) Read(p []byte) (int, error) {
	<-c.ending
	if len(c.answer) == 0 {
		return 0, net.ErrClosed
	}
	n := copy(p, c.answer)
	c.answer = c.answer[n:]
	return n, nil
}

func (c *quietConn) SetReadDeadline(at time.Time) error {
	if !at.IsZero() && at.Before(time.Now()) {
		c.end()
	}
	return nil
}

func (c *quietConn) SetDeadline(at time.Time) error   { return c.SetReadDeadline(at) }
func (c *quietConn) SetWriteDeadline(time.Time) error { return nil }
func (c *quietConn) Close() error                     { c.end(); return nil }
