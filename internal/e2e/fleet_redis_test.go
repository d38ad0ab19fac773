package e2e

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest/executable"
)

// The same on a storage that isn't a file system: a real Redis, and a Caddy that has a
// module for it.
func TestFleetOnRedis(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("-short: this builds another Caddy")
	}
	address := startRedis(t)
	binary := executable.Of(t, "../../testdata/redis", ".")
	checkFleet(t, binary, map[string]any{"module": "redis", "address": []string{address}})
}

// startRedis runs Redis and returns its address. It can't choose a free port itself, so it
// listens on a Unix socket, to which this process forwards.
func startRedis(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		wstest.SkipWithout(t, "redis-server")
	}
	dir, err := os.MkdirTemp(wstest.TempDir, "redis") // a path that is short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	cmd := exec.Command(path, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(wstest.Timeout); ; time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("unix", socket); err == nil {
			conn.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("Redis doesn't start")
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go forward(conn, socket)
		}
	}()
	return ln.Addr().String()
}

// forward connects conn with a Unix socket until one of both ends.
func forward(conn net.Conn, socket string) {
	defer conn.Close()
	other, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	defer other.Close()
	go func() {
		defer conn.Close()
		defer other.Close()
		_, _ = io.Copy(conn, other)
	}()
	_, _ = io.Copy(other, conn)
}
