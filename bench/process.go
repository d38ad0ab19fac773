package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A process is a server in a process of its own.
type process struct {
	cmd  *exec.Cmd
	addr string
}

// startTime is how long a server may take until it listens.
const startTime = 30 * time.Second

// start starts a server on a CPU. The server says where it listens: in a line
// with nothing else, or as Caddy logs it.
func start(cmd *exec.Cmd, cpu int) (*process, error) {
	if err := pinned(cmd, cpu); err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	_ = w.Close() // the server has its own
	addr := make(chan string, 1)
	said := new(strings.Builder)
	go func() {
		listens(io.TeeReader(r, said), addr)
		_, _ = io.Copy(io.Discard, r) // until the server is gone
		_ = r.Close()
	}()
	p := &process{cmd: cmd}
	select {
	case p.addr = <-addr:
	case <-time.After(startTime):
	}
	if p.addr == "" {
		p.stop()
		return nil, fmt.Errorf("%v doesn't start:\n%s", cmd.Args, said)
	}
	return p, nil
}

// listens finds where a server listens in what it says.
func listens(r io.Reader, addr chan<- string) {
	defer close(addr)
	var found string
	for lines := bufio.NewScanner(r); lines.Scan(); {
		var e struct {
			Msg    string
			Actual string `json:"actual_address"`
		}
		if strings.HasPrefix(lines.Text(), "127.0.0.1:") {
			addr <- lines.Text()
			return
		}
		_ = json.Unmarshal(lines.Bytes(), &e) // not all lines are JSON
		if e.Msg == "port 0 listener" {
			found = e.Actual
		}
		if e.Msg == "serving initial configuration" {
			addr <- found
			return
		}
	}
}

func (p *process) stop() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // it was killed
}

// cpuTime is the time that the process has spent on CPUs. The kernel has it to
// the nanosecond for each thread; servers in Go hardly ever end one.
func (p *process) cpuTime() (time.Duration, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, task := range tasks {
		content, err := os.ReadFile(task) //nolint:gosec // a path of the kernel's
		if err != nil {
			continue // the thread has ended
		}
		first, _, _ := strings.Cut(string(content), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += ns
	}
	if sum == 0 {
		return 0, fmt.Errorf("/proc/%d/task: no CPU time", p.cmd.Process.Pid)
	}
	return time.Duration(sum), nil
}

// resident is how much memory of the process is resident, in bytes.
func (p *process) resident() (int64, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	pages, err := strconv.ParseInt(strings.Fields(string(content))[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}
