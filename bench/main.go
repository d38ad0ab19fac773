// Command bench measures the echo and the passthrough of this repository beside
// other WebSocket servers and beside a bare TCP echo, which is the limit. It
// prints a Markdown table.
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

// A plan is how much is measured.
type plan struct {
	rounds  int           // of each load, in which the servers take turns
	turn    time.Duration // how long a turn is
	sockets int           // that are opened to see what an idle one takes
	crowd   int           // sockets that are kept alive; 0: none
	servers *regexp.Regexp
	loads   *regexp.Regexp
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
	p := plan{rounds: 61, turn: 60 * time.Millisecond, sockets: 2000, crowd: 10_000}
	short := flag.Bool("short", false, "take two minutes, not ten")
	smoke := flag.Bool("smoke", false, "take a few seconds: see that everything works, measure nothing")
	servers := flag.String("servers", ".", "only servers whose name matches")
	loads := flag.String("loads", ".", "only loads whose name matches")
	rounds := flag.Int("rounds", 0, "another number of rounds")
	flag.Parse()
	if *short {
		p = plan{rounds: 9, turn: 40 * time.Millisecond, sockets: 1000}
	}
	if *smoke {
		p = plan{rounds: 1, turn: time.Millisecond, sockets: 10, crowd: 10}
	}
	if *rounds > 0 {
		p.rounds = *rounds
	}
	p.servers, p.loads = regexp.MustCompile(*servers), regexp.MustCompile(*loads)
	return p
}

// bench measures what p says and prints it.
func bench(p plan) (err error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	begun := time.Now()
	b, err := newBuild(dir)
	if err != nil {
		return err
	}
	cpus, err := pinSelf()
	if err != nil {
		return err
	}
	b.cpus = cpus
	peers, err := b.peers(p.servers)
	if err != nil {
		return err
	}
	t := newTable(peers, b.cert, p)
	if err := t.measure(); err != nil {
		return err
	}
	t.print(os.Stdout)
	if p.crowd > 0 {
		if err := keepCrowd(b, p, os.Stdout); err != nil {
			return err
		}
	}
	fmt.Printf("\n%s, %s\n", cpus, time.Since(begun).Round(time.Second))
	return nil
}

// run runs a command and shows what it says if it fails.
func run(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
	}
	return nil
}
