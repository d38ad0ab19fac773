//go:build linux && amd64 && !race

package budget

import (
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// All allocations of the server count, also those of Caddy and Go.
func TestAllocations(t *testing.T) {
	compareWithBudget(t, func(t *testing.T, found func(number)) {
		u := wstest.ListenUpstream(t)
		p := serve(t, wstest.NewProcess(t, "run", "--config", "-"), site(u, ""))
		onEach(t, func(t *testing.T, mode, protocol string) {
			p.ShareConnections(t)
			c := open(t, &p.Server, u, mode, protocol, 1)
			n := allocations(t, p, 1000, func() { c.exchange(t) })
			found(number{mode, "allocations per message", protocol, n, tolerance{0.2, 0.03}})
			n = allocations(t, p, 100, func() { open(t, &p.Server, u, mode, protocol, 1).close() })
			found(number{mode, "allocations per handshake", protocol, n, tolerance{0, 0.03}})
		})
	})
}

// allocations is how many allocations of the process something causes.
func allocations(t *testing.T, p *wstest.Process, times int, do func()) float64 {
	t.Helper()
	for range 20 { // pools fill
		do()
	}
	before := allocated(t, p)
	asking := allocated(t, p) - before
	for range times {
		do()
	}
	return max(0, (allocated(t, p)-before-2*asking)/float64(times))
}

// allocated is how many allocations the process has made.
func allocated(t *testing.T, p *wstest.Process) float64 {
	t.Helper()
	return memoryOf(t, p, "").Mallocs
}
