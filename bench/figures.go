package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"time"
)

// entry returns the table's entry for a server in a column, or "" if there is none.
func (t *table) entry(column string, p *peer, g *group) string {
	if c := t.cells[column][p.name]; c != nil {
		return g.format(c, t.cells[column][p.base])
	}
	if bytes, ok := t.memory[column][p.name]; ok && g.memory {
		base, ok := t.memory[column][p.base]
		if !ok {
			return figure(bytes)
		}
		return withRatio(bytes, bytes/base)
	}
	return ""
}

// A group is a part of the table with one kind of figures.
type group struct {
	name   string
	format func(c, base *cell) string
	memory bool // it includes the memory of idle sockets
}

var groups = []*group{
	{name: "CPU seconds per million, bytes per socket", format: formatCPU, memory: true},
	{name: "per second", format: formatRate},
	{name: "latency in µs: median, 99%, 99.9%", format: formatLatency},
}

func formatCPU(c, base *cell) string { return withRatio(median(c.cpu), ratio(c.cpu, base, cpu)) }

func formatRate(c, base *cell) string { return withRatio(median(c.rate), ratio(c.rate, base, rate)) }

func formatLatency(c, base *cell) string {
	s := ""
	for _, q := range []float64{.5, .99, .999} {
		at := quantile(c.latencies, q)
		f := math.NaN()
		if base != nil {
			f = float64(at) / float64(quantile(base.latencies, q))
		}
		if s != "" {
			s += ", "
		}
		s += withRatio(float64(at)/float64(time.Microsecond), f)
	}
	return s
}

func cpu(c *cell) []float64  { return c.cpu }
func rate(c *cell) []float64 { return c.rate }

// ratio returns the median over the rounds of the ratio of a server's figure to that of
// base. Both were measured in the same round, and thus under the same conditions.
func ratio(figures []float64, base *cell, values func(*cell) []float64) float64 {
	if base == nil {
		return math.NaN() // base is not measured
	}
	ratios := make([]float64, len(figures))
	for i, b := range values(base) {
		ratios[i] = figures[i] / b
	}
	return median(ratios)
}

// withRatio formats a figure and its ratio to that of the server it is compared with.
func withRatio(f, ratio float64) string {
	if math.IsNaN(ratio) {
		return figure(f)
	}
	return fmt.Sprintf("%s (%.2f)", figure(f), ratio)
}

// figure formats f with three digits, or more if the integer part has more.
func figure(f float64) string {
	switch {
	case f < 10:
		return fmt.Sprintf("%.2f", f)
	case f < 100:
		return fmt.Sprintf("%.1f", f)
	default:
		return fmt.Sprintf("%.0f", f)
	}
}

func median(values []float64) float64 { return quantile(values, .5) }

// quantile returns the q-quantile of values.
func quantile[T float64 | time.Duration](values []T, q float64) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// printNoise prints how much the rounds differ: the interquartile range of their CPU time,
// relative to the median.
func (t *table) printNoise(w io.Writer) {
	var spreads []float64
	for _, column := range t.cells {
		for _, c := range column {
			spreads = append(spreads, (quantile(c.cpu, .75)-quantile(c.cpu, .25))/median(c.cpu))
		}
	}
	if len(spreads) == 0 {
		return
	}
	fmt.Fprintf(w, "In parentheses: the ratio to %s, or for proxies to Caddy's `reverse_proxy` alone. %d rounds of %s each. The "+
		"interquartile range of CPU time is %.0f%% of the median in the median cell, %.0f%% in the noisiest.\n",
		rawEcho, t.plan.rounds, t.plan.turn, 100*median(spreads), 100*slices.Max(spreads))
}
