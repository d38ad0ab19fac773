package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"time"
)

// entry is what stands in the table about a server in a column; empty if there
// is nothing.
func (t *table) entry(column string, p *peer, g *group) string {
	if c := t.cells[column][p.name]; c != nil {
		return g.of(c, t.cells[column][p.base])
	}
	if bytes, ok := t.memory[column][p.name]; ok && g.memory {
		return withRatio(bytes, bytes/t.memory[column][p.base])
	}
	return ""
}

// A group is a part of the table with one kind of figures.
type group struct {
	name   string
	of     func(c, base *cell) string
	memory bool // with the memory of idle sockets
}

var groups = []*group{
	{name: "CPU seconds per million, bytes per socket", of: cpuOf, memory: true},
	{name: "per second", of: rateOf},
	{name: "reply after µs: median, 99%, 99.9%", of: latencyOf},
}

func cpuOf(c, base *cell) string { return withRatio(median(c.cpu), ratio(c.cpu, base, cpu)) }

func rateOf(c, base *cell) string { return withRatio(median(c.rate), ratio(c.rate, base, rate)) }

func latencyOf(c, base *cell) string {
	s := ""
	for _, q := range []float64{.5, .99, .999} {
		at := quantile(c.took, q)
		f := math.NaN()
		if base != nil {
			f = float64(at) / float64(quantile(base.took, q))
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

// ratio is the median of the ratios of the rounds, in which both had the same
// weather.
func ratio(of []float64, base *cell, values func(*cell) []float64) float64 {
	if base == nil {
		return math.NaN() // it was not asked for
	}
	ratios := make([]float64, len(of))
	for i, b := range values(base) {
		ratios[i] = of[i] / b
	}
	return median(ratios)
}

// withRatio is a figure and its ratio to that of the row that it is compared with.
func withRatio(f, ratio float64) string {
	if math.IsNaN(ratio) {
		return figure(f)
	}
	return fmt.Sprintf("%s (%.2f)", figure(f), ratio)
}

// figure has three digits or all before the point.
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

// quantile is the value that a share q of all is no larger than.
func quantile[T float64 | time.Duration](values []T, q float64) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// printNoise prints how much the rounds differ: by what part of the median half
// of them lie apart.
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
	fmt.Fprintf(w, "\nIn brackets: the ratio to %s, for passthrough to `reverse_proxy` alone. %d rounds of %s; half of a cell's "+
		"rounds lie within %.0f%% of CPU time in the median cell, within %.0f%% in the noisiest.\n",
		rawEcho, t.plan.rounds, t.plan.turn, 100*median(spreads), 100*slices.Max(spreads))
}
