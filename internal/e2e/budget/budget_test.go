//go:build linux && amd64 && !race

package budget

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// The kept numbers are in a file with a line for each mode and quantity, and a column for
// each of wstest.Protocols.
const (
	budgetFile = "testdata/budget.txt"
	updateHint = "go test ./internal/e2e/budget -args -update"
	budgetHead = "# What messages, handshakes and idle sockets cost. To rewrite it:\n# " + updateHint + "\n\n"
)

var update = flag.Bool("update", false, "rewrite "+budgetFile)

// A number is what something costs.
type number struct {
	mode, quantity, protocol string
	value                    float64
	allowed                  tolerance
}

// A tolerance is how far a number may be above the kept one: by so much, or by such a part of
// it, whichever is more. Three times as far below, it has to be kept anew.
type tolerance struct{ by, part float64 }

func (a tolerance) of(kept float64) float64 { return max(a.by, a.part*kept) }

// A budget is the kept numbers, by mode and quantity, in the order of wstest.Protocols.
// Those of a protocol that has none are dashes.
type budget struct {
	version string // of Go
	rows    map[string][]string
}

// compareWithBudget compares the numbers that f finds with the kept ones, or keeps them. It
// does so when what f has started has ended, since a Caddy shows its log if the test has
// failed.
func compareWithBudget(t *testing.T, f func(t *testing.T, found func(number))) {
	t.Helper()
	b := readBudget(t)
	// Stacks and allocations are others with another Go.
	if b.version != goVersion() && !*update {
		wstest.SkipWithout(t, fmt.Sprintf("%s, with which %s was written; to rewrite it with %s: %s", b.version, budgetFile, goVersion(), updateHint))
	}
	var (
		mu      sync.Mutex
		numbers []number
	)
	found := func(n number) {
		mu.Lock()
		defer mu.Unlock()
		numbers = append(numbers, n)
	}
	if !t.Run("measure", func(t *testing.T) { f(t, found) }) {
		return
	}
	for _, n := range numbers {
		b.compare(t, n)
	}
	if *update {
		b.write(t)
	}
}

func readBudget(t *testing.T) *budget {
	t.Helper()
	b := &budget{version: goVersion(), rows: make(map[string][]string)}
	data, err := os.ReadFile(budgetFile)
	if err != nil && !*update {
		t.Fatal(err)
	}
	for line := range strings.Lines(strings.TrimPrefix(string(data), budgetHead)) {
		words := strings.Fields(line)
		at := len(words) - len(wstest.Protocols)
		name, columns := strings.Join(words[:at], " "), words[at:]
		if columns[0] == wstest.Protocols[0] {
			b.version = name
		} else {
			b.rows[name] = columns
		}
	}
	return b
}

// goVersion is the version of Go without the patch release, which rarely changes a number.
func goVersion() string {
	parts := strings.SplitN(runtime.Version(), ".", 3)
	return strings.Join(parts[:min(len(parts), 2)], ".")
}

// compare compares a number with the kept one. With -update, the new one is kept if it is
// further away than half of what is tolerated.
func (b *budget) compare(t *testing.T, n number) {
	t.Helper()
	row := n.mode + " " + n.quantity
	if b.rows[row] == nil {
		b.rows[row] = slices.Repeat([]string{"-"}, len(wstest.Protocols))
	}
	kept := &b.rows[row][slices.Index(wstest.Protocols, n.protocol)]
	want, err := strconv.ParseFloat(*kept, 64)
	difference, allowed := n.value-want, n.allowed.of(want)
	what := fmt.Sprintf("%s over %s: %s %s", n.mode, n.protocol, format(n.value), n.quantity)
	switch {
	case *update && (err != nil || math.Abs(difference) > allowed/2):
		*kept = format(n.value)
	case err != nil:
		t.Errorf("%s, of which %s has no number; to add it: %s", what, budgetFile, updateHint)
	case difference > allowed:
		t.Errorf("%s, up from %s in %s; to accept that: %s", what, *kept, budgetFile, updateHint)
	case difference < -3*allowed:
		t.Errorf("%s, down from %s in %s; to keep it down: %s", what, *kept, budgetFile, updateHint)
	default:
		t.Log(what)
	}
}

// format rounds to what is worth keeping.
func format(x float64) string {
	if x < 100 {
		return strconv.FormatFloat(math.Round(x*10)/10, 'f', -1, 64)
	}
	return strconv.FormatFloat(math.Round(x), 'f', 0, 64)
}

func (b *budget) write(t *testing.T) {
	t.Helper()
	var out bytes.Buffer
	out.WriteString(budgetHead)
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s\t%s\n", goVersion(), strings.Join(wstest.Protocols, "\t"))
	for _, row := range slices.Sorted(maps.Keys(b.rows)) {
		fmt.Fprintf(w, "%s\t%s\n", row, strings.Join(b.rows[row], "\t"))
	}
	w.Flush()
	if err := os.WriteFile(budgetFile, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
