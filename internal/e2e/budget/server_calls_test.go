//go:build linux && amd64 && !race

package budget

import (
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// What the HTTP server is called for costs more than the call: a flush is a system call, and
// each deadline on HTTP/2 a trip through the connection's loop.
func TestServerCalls(t *testing.T) {
	compareWithBudget(t, func(t *testing.T, found func(number)) {
		const times = 200
		u := wstest.ListenUpstream(t)
		s := wstest.Start(t, "route {\ncount_calls\n"+site(u, "")+"\n}")
		onEach(t, func(t *testing.T, mode, protocol string) {
			if protocol == "http1" || protocol == "tls" {
				return // the module has the connection
			}
			for _, together := range []int{1, 16} {
				c := open(t, s, u, mode, protocol, together)
				c.exchange(t)
				before := calls.load()
				for range times {
					c.exchange(t)
				}
				after := calls.load()
				for i, of := range callNames {
					n := float64(after[i]-before[i]) / times
					found(number{mode, fmt.Sprintf("%s per %d sent at once", of, together), protocol, n, tolerance{0.1, 0}})
				}
			}
		})
	})
}

// callNames are what countCalls counts.
var callNames = [...]string{"body reads", "writes", "flushes", "deadlines"}

type callCounts struct{ reads, writes, flushes, deadlines atomic.Int64 }

var calls callCounts

// load returns the counts in the order of callNames.
func (c *callCounts) load() [len(callNames)]int64 {
	return [...]int64{c.reads.Load(), c.writes.Load(), c.flushes.Load(), c.deadlines.Load()}
}

// countCalls is a handler that counts what the handlers behind it, and Caddy on their behalf,
// call the HTTP server for.
type countCalls struct{}

func init() {
	caddy.RegisterModule(new(countCalls))
	httpcaddyfile.RegisterHandlerDirective("count_calls", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		return new(countCalls), nil
	})
}

func (*countCalls) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.count_calls", New: func() caddy.Module { return new(countCalls) }}
}

// ServeHTTP gets between the HTTP server and what of Caddy sets its deadlines, which is in
// front of all handlers.
func (*countCalls) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if reader, writer := caddyhttp.IdleTimeoutsFromContext(r.Context()); reader != nil && writer != nil {
		reader.ReadCloser = countedBody{reader.ReadCloser}
		writer.ResponseWriterWrapper = &caddyhttp.ResponseWriterWrapper{ResponseWriter: countedWriter{writer.ResponseWriter}}
		reader.Ctrl = http.NewResponseController(countedDeadlines{nil, reader.Ctrl})
		writer.Ctrl = http.NewResponseController(countedDeadlines{nil, writer.Ctrl})
	}
	return next.ServeHTTP(w, r)
}

type countedBody struct{ io.ReadCloser }

func (b countedBody) Read(p []byte) (int, error) {
	calls.reads.Add(1)
	return b.ReadCloser.Read(p)
}

type countedWriter struct{ http.ResponseWriter }

func (w countedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w countedWriter) Write(p []byte) (int, error) {
	calls.writes.Add(1)
	return w.ResponseWriter.Write(p)
}

func (w countedWriter) FlushError() error {
	calls.flushes.Add(1)
	return http.NewResponseController(w.ResponseWriter).Flush()
}

type countedDeadlines struct {
	http.ResponseWriter // nil: only deadlines are set
	ctrl                *http.ResponseController
}

func (d countedDeadlines) SetReadDeadline(at time.Time) error {
	calls.deadlines.Add(1)
	return d.ctrl.SetReadDeadline(at)
}

func (d countedDeadlines) SetWriteDeadline(at time.Time) error {
	calls.deadlines.Add(1)
	return d.ctrl.SetWriteDeadline(at)
}
