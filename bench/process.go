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

// A process is a server that runs in a process of its own.
type process struct {
	cmd  *exec.Cmd
	addr string
}

// startTimeout is how long a server may take until it listens.
const startTimeout = 30 * time.Second

// start starts a server on a CPU and waits until it prints the address on which it listens:
// on a line of its own, or as Caddy logs it.
func start(cmd *exec.Cmd, cpu int) (*process, error) {
	if err := pinCommand(cmd, cpu); err != nil {
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
	_ = w.Close() // the server has a copy
	addr := make(chan string, 1)
	output := new(strings.Builder)
	go func() {
		findAddr(io.TeeReader(r, output), addr)
		_, _ = io.Copy(io.Discard, r) // until the server exits
		_ = r.Close()
	}()
	p := &process{cmd: cmd}
	select {
	case p.addr = <-addr:
	case <-time.After(startTimeout):
	}
	if p.addr == "" {
		p.stop()
		return nil, fmt.Errorf("%v did not start:\n%s", cmd.Args, output)
	}
	return p, nil
}

// findAddr finds the address on which a server listens in its output.
func findAddr(r io.Reader, addr chan<- string) {
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

// cpuTime returns the CPU time that the process has used. The kernel counts it in
// nanoseconds, but only for each running thread; Go servers hardly ever end one.
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
		running, _, _ := strings.Cut(string(content), " ")
		ns, err := strconv.ParseInt(running, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += ns
	}
	if sum == 0 {
		return 0, fmt.Errorf("/proc/%d/task: no CPU time found", p.cmd.Process.Pid)
	}
	return time.Duration(sum), nil
}

// resident returns the resident memory of the process, in bytes.
func (p *process) resident() (int64, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	pages, err := strconv.ParseInt(strings.Fields(string(content))[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}
