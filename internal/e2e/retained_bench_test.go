package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// BenchmarkRetainedConfig is what a config and one proxied socket of it take in memory
// once it has been replaced, by its number of sites, in KiB; and what a reload leaves
// behind that no socket outlives.
func BenchmarkRetainedConfig(b *testing.B) {
	for _, sites := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("sites=%d", sites), func(b *testing.B) {
			var retained, left float64
			for b.Loop() {
				retained = perReload(b, sites, func(p *wstest.Process) { dialBench(b, p, "/") })
				left = perReload(b, sites, func(*wstest.Process) {})
			}
			b.ReportMetric(retained, "KiB/config")
			b.ReportMetric(left, "KiB/reload")
		})
	}
}

// perReload returns how much the memory of a Caddy grows per reload, in KiB, if something
// is done before each.
func perReload(b *testing.B, sites int, do func(*wstest.Process)) float64 {
	b.Helper()
	upstream := wstest.EchoUpstream(b)
	var config strings.Builder
	for i := range sites {
		fmt.Fprintf(&config, "@site%[1]d host localhost 127.0.0.1 site%[1]d.example.com\n"+
			"handle @site%[1]d {\nencode\nheader X-Site %[1]d\nwebsocket passthrough\nreverse_proxy %[2]s\n}\n", i, upstream)
	}
	p := wstest.StartProcess(b, "", config.String())
	reload := func(times int) {
		for i := range times {
			do(p)
			p.Reload(b, "", fmt.Sprintf("header X-Generation %d-%d\n%s", times, i, &config))
		}
	}
	memory := func() int64 {
		p.MemStats(b)
		m := p.MemStats(b)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	const few, many = 5, 25
	reload(few) // what stays from then on
	before := memory()
	reload(many)
	return float64(memory()-before) / many / 1024
}
