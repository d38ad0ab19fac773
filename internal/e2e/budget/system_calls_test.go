//go:build linux && amd64 && !race

package budget

import (
	"bytes"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// What counts is system calls on sockets, those in vain too. Whether threads sleep or wake
// each other, with the others, is up to the machine.
func TestSystemCalls(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil || exec.Command(strace, "-qq", "-e", "trace=none", "true").Run() != nil {
		wstest.SkipWithout(t, "strace, or the permission to trace a process")
	}
	compareWithBudget(t, func(t *testing.T, found func(number)) {
		u := wstest.ListenUpstream(t)
		p := wstest.NewProcess(t, "run", "--config", "-")
		log := filepath.Join(t.TempDir(), "strace")
		// With -D, strace isn't between the test and Caddy. Other calls don't stop a thread.
		const options = "-D -f -y -qq -s 0 --seccomp-bpf -e trace=%network,read,write,readv,writev,sendfile,splice -e signal=none -o"
		p.Cmd.Args = slices.Concat([]string{strace}, strings.Fields(options), []string{log, p.Cmd.Path}, p.Cmd.Args[1:])
		p.Cmd.Path = strace
		serve(t, p, site(u, ""))
		onEach(t, func(t *testing.T, mode, protocol string) {
			c := open(t, &p.Server, u, mode, protocol, 1)
			n := leastCalls(t, log, func() {
				c.exchange(t)
				awaitSleep(t, p.Cmd.Process.Pid)
			})
			found(number{mode, "system calls per message", protocol, n, tolerance{callNoise[protocol], 0}})
		})
	})
}

// callNoise is by how much the system calls per message differ from run to run. QUIC
// acknowledges in a packet of its own what nothing is sent after in time.
var callNoise = map[string]float64{"http1": 0.1, "tls": 0.1, "http2": 0.1, "http3": 0.7}

// leastCalls is how many system calls on sockets something takes on average in the batch with
// the fewest, for a slow machine or the odd window update only adds some.
func leastCalls(t *testing.T, log string, do func()) float64 {
	t.Helper()
	const batches, times = 8, 10
	do()
	least := math.Inf(1)
	for range batches {
		before := socketCalls(t, log)
		for range times {
			do()
		}
		least = min(least, float64(socketCalls(t, log)-before)/times)
	}
	return least
}

// awaitSleep waits until all threads of the process sleep, so that it doesn't depend on
// anybody's speed what the process finds when it looks for more.
func awaitSleep(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(wstest.Timeout)
	for asleep := 0; asleep < 3; { // one that slept may have been woken by the next
		if asleep++; !sleeps(t, pid) {
			asleep = 0
		}
		if time.Now().After(deadline) {
			t.Fatal("Caddy doesn't come to rest")
		}
	}
}

// sleeps reports whether all threads of the process sleep. Those that strace has stopped
// don't.
func sleeps(t *testing.T, pid int) bool {
	t.Helper()
	tasks, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/stat")
	if len(tasks) == 0 {
		t.Fatal("Caddy has ended")
	}
	for _, task := range tasks {
		stat, _ := os.ReadFile(task) // the thread may have ended
		if _, state, ok := bytes.Cut(stat, []byte(") ")); ok && state[0] != 'S' {
			return false
		}
	}
	return true
}

// socketCall is the beginning of one in what strace has written, up to the descriptor.
var socketCall = regexp.MustCompile(`(?m)^\d+ +\w+\(\d+<socket:`)

// socketCalls is how many system calls on sockets strace has seen.
func socketCalls(t *testing.T, log string) int {
	t.Helper()
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	return len(socketCall.FindAll(data, -1))
}
