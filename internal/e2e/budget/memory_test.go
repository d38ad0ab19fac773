//go:build linux && amd64 && !race

package budget

import (
	"encoding/json"
	"net/http"
	"runtime"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// memory is a route of the admin API that serves [memoryStats]. With a query, they are of a
// process that has collected its garbage. A profile, for which Go's own route collects, would
// be garbage among what lives.
type memory struct{}

// memoryStats are some of [runtime.MemStats].
type memoryStats struct{ Mallocs, HeapAlloc, StackInuse float64 }

func init() { caddy.RegisterModule(new(memory)) }

func (*memory) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.memory", New: func() caddy.Module { return new(memory) }}
}

func (*memory) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{Pattern: "/memory", Handler: caddy.AdminHandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		if r.URL.RawQuery != "" {
			for range 3 { // pools are empty after two, and each halves stacks that are too large
				runtime.GC()
			}
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return json.NewEncoder(w).Encode(memoryStats{float64(m.Mallocs), float64(m.HeapAlloc), float64(m.StackInuse)})
	})}}
}

// memoryOf is that of a process, "?gc" for the query that has it collect its garbage.
func memoryOf(t *testing.T, p *wstest.Process, query string) (m memoryStats) {
	t.Helper()
	if err := json.Unmarshal([]byte(p.Get(t, "/memory"+query)), &m); err != nil {
		t.Fatal(err)
	}
	return m
}
