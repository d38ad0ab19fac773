package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// A cpuPair is the CPU on which the servers run and the one on which everything else does.
// They are the same if there is only one.
type cpuPair struct{ server, client int }

func (c cpuPair) String() string {
	if c.server == c.client {
		return fmt.Sprintf("server and client on CPU %d", c.server)
	}
	return fmt.Sprintf("server on CPU %d, client on CPU %d", c.server, c.client)
}

// pinSelf chooses the first and the last of the CPUs that the process may use, and pins the
// process to the last one.
func pinSelf() (cpuPair, error) {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return cpuPair{}, err
	}
	c := cpuPair{-1, -1}
	for i := range len(allowed) * 64 {
		if allowed.IsSet(i) {
			if c.server < 0 {
				c.server = i
			}
			c.client = i
		}
	}
	tasks, err := filepath.Glob("/proc/self/task/*")
	if err != nil {
		return c, err
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(filepath.Base(task))
		if err != nil {
			return c, err
		}
		if err := pin(tid, c.client); err != nil {
			return c, err
		}
	}
	runtime.GOMAXPROCS(1)
	return c, nil
}

// pin makes a thread, and the threads that it starts, run on one CPU.
func pin(tid, cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	return unix.SchedSetaffinity(tid, &set)
}

// pinCommand makes a command run on one CPU. The command is started through this program,
// since a process can't be started with an affinity.
func pinCommand(cmd *exec.Cmd, cpu int) error {
	if cmd.Err != nil {
		return cmd.Err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd.Args = append([]string{self, "exec", strconv.Itoa(cpu), cmd.Path}, cmd.Args[1:]...)
	cmd.Path = self
	return nil
}

// execPinned pins this process to a CPU and replaces it with the command in args.
func execPinned(cpu string, args []string) error {
	n, err := strconv.Atoi(cpu)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := pin(0, n); err != nil {
		return err
	}
	return syscall.Exec(args[0], args, os.Environ()) //nolint:gosec // the command line is this program's own
}
