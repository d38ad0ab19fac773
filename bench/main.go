// Command bench compares the echo and passthrough modes of this repository with other
// WebSocket servers and proxies, and with a server that only sends bytes back, which is
// the upper limit. It prints Markdown tables.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"time"
)

// A plan is what is measured, and for how long.
type plan struct {
	rounds  int            // the number of rounds for each load, in which the servers take turns
	turn    time.Duration  // how long a turn lasts
	sockets int            // the number of idle sockets for measuring memory
	crowds  []int          // the numbers of idle sockets for measuring how costs grow
	servers *regexp.Regexp // matches the names of the servers to measure
	loads   *regexp.Regexp // matches the names of the loads to measure
}

func main() {
	var err error
	switch {
	case len(os.Args) > 2 && os.Args[1] == "exec":
		err = execPinned(os.Args[2], os.Args[3:])
	case len(os.Args) > 2 && os.Args[1] == "serve":
		err = serve(os.Args[2], os.Args[3:])
	default:
		err = bench(parsePlan())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func parsePlan() plan {
	p := plan{rounds: 31, turn: 60 * time.Millisecond, sockets: 2000}
	short := flag.Bool("short", false, "run for two minutes instead of ten")
	crowd := flag.Bool("crowd", false, "measure how the costs of idle sockets grow with their number, and nothing else")
	smoke := flag.Bool("smoke", false, "run for a few seconds, to check that everything works; the figures mean nothing")
	servers := flag.String("servers", ".", "measure only servers whose name matches this regular expression")
	loads := flag.String("loads", ".", "measure only loads whose name matches this regular expression")
	rounds := flag.Int("rounds", 0, "number of rounds for each load")
	flag.Parse()
	if *short {
		p = plan{rounds: 9, turn: 40 * time.Millisecond, sockets: 1000}
	}
	if *crowd {
		p = plan{turn: p.turn, crowds: crowdSizes}
	}
	if *smoke {
		p = plan{rounds: 1, turn: time.Millisecond, sockets: 10, crowds: []int{1, 30}}
	}
	if *rounds > 0 {
		p.rounds = *rounds
	}
	p.servers, p.loads = regexp.MustCompile(*servers), regexp.MustCompile(*loads)
	return p
}

// bench measures what is planned and prints the results.
func bench(p plan) (err error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	started := time.Now()
	b, err := newBuild(dir)
	if err != nil {
		return err
	}
	cpus, err := pinSelf()
	if err != nil {
		return err
	}
	b.cpus = cpus
	if p.rounds > 0 {
		if err := b.compare(p); err != nil {
			return err
		}
	}
	if len(p.crowds) > 0 {
		if err := measureCrowds(b, p, os.Stdout); err != nil {
			return err
		}
	}
	fmt.Printf("\n%s, %s\n", cpus, time.Since(started).Round(time.Second))
	return nil
}

// compare compares the servers and prints a table.
func (b *build) compare(p plan) error {
	peers, err := b.peers(p.servers)
	if err != nil {
		return err
	}
	defer b.upstream.stop()
	t := newTable(peers, b.cert, p)
	if err := t.measure(); err != nil {
		return err
	}
	t.print(os.Stdout)
	return nil
}

// run runs a command. If it fails, the error includes its output.
func run(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
	}
	return nil
}
