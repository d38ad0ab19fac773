//go:build linux && amd64 && !race

package e2e

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// Clients that stop within a message hold memory in proportion to what they have
// sent, whatever they have announced.
func TestMemoryOfStalledClients(t *testing.T) { //nolint:tparallel // they measure one process
	t.Parallel()
	const (
		announced = 8 << 20 // bytes, of a frame's payload
		short     = 4000    // fits in the receive buffer
		most      = 50 << 10
	)
	compressed := wstest.ClientFrame(ws.FinBit|ws.RSV1Bit|byte(ws.OpBinary), wstest.Deflate(wstest.Noise(announced)))
	plain := wstest.ClientFrame(ws.FinBit|byte(ws.OpText), []byte(wstest.Letters(announced)))
	megabyte := wstest.ClientFrame(ws.FinBit|byte(ws.OpText), []byte(wstest.Letters(1<<20)))
	starts := []struct {
		name  string
		path  string
		start []byte
		most  int64 // bytes, of the server's memory
	}{
		{"a compressed frame's header", "/", compressed[:14], most},
		{"100 bytes of a compressed frame", "/", compressed[:100], most},
		{"100 bytes of a compressed fragment", "/", wstest.ClientFrame(ws.RSV1Bit|byte(ws.OpText), wstest.Deflate(wstest.Letters(300)))[:100], most},
		{"100 bytes of a compressed frame that fits", "/", wstest.ClientFrame(ws.FinBit|ws.RSV1Bit|byte(ws.OpText), wstest.Deflate(wstest.Letters(short)))[:100], most},
		{"more than a small buffer, compressed", "/", compressed[:4200], most + 5*4200},
		{"more than a medium buffer, compressed", "/", compressed[:16_600], most + 5*16_600},
		{"more than a block, compressed", "/", compressed[:66_000], most + 5*66_000},
		{"100 bytes of a frame", "/", plain[:100], most},
		{"100 bytes of a frame that fits", "/", wstest.ClientFrame(ws.FinBit|byte(ws.OpText), []byte(wstest.Letters(short)))[:100], most},
		{"more than a small buffer", "/", plain[:4200], most + 16*4200},
		{"more than a block", "/", plain[:66_000], most + 5*66_000},
		{"a byte, large buffers", "/large", plain[:1], most},
		{"100 bytes, large buffers", "/large", megabyte[:100], most},
		{"100 bytes compressed, large buffers", "/large", compressed[:100], most},
	}
	p := wstest.StartProcess(t, "", "websocket /large {\ncompression on\nbuffer_size 1MiB\n}\nwebsocket {\ncompression on\n}")
	p.ShareConnections(t)
	for _, protocol := range wstest.Protocols {
		for _, s := range starts {
			t.Run(protocol+"/"+s.name, func(t *testing.T) {
				open := func(n int) {
					for range n {
						c := p.Dial(t, protocol, s.path, "Sec-WebSocket-Extensions", ws.DeflateExtension)
						c.WriteRaw(s.start)
						go io.Copy(io.Discard, c.Reader)
					}
				}
				if each := heldEach(t, p, open, "ws.(*Reader).read"); each > s.most {
					t.Errorf("a client that has sent %d bytes holds %d, want %d at most", len(s.start), each, s.most)
				}
			})
		}
	}
}

// Clients that don't read what comes back hold no deflaters.
func TestMemoryOfClientsThatDontRead(t *testing.T) { //nolint:tparallel // they measure one process
	t.Parallel()
	const most = 512 << 10 // bytes: a long block, what there is to inflate, an inflater
	message := wstest.ClientFrame(ws.FinBit|ws.RSV1Bit|byte(ws.OpBinary), wstest.Deflate(wstest.Noise(16<<20)))
	p := wstest.StartProcess(t, "", "websocket {\ncompression on\nwrite_timeout 1m\n}")
	for _, protocol := range []string{"http1", "tls"} {
		t.Run(protocol, func(t *testing.T) {
			open := func(n int) {
				for range n {
					c := p.Dial(t, protocol, "/", "Sec-WebSocket-Extensions", ws.DeflateExtension)
					go c.Conn.Write(message)
				}
			}
			if each := heldEach(t, p, open, "ws.(*Writer).write"); each > most {
				t.Errorf("a client that doesn't read holds %d bytes, want %d at most", each, most)
			}
		})
	}
}

// heldEach is what the server holds for each of the sockets that open opens, in
// bytes, when all of them wait in the given function.
func heldEach(t *testing.T, p *wstest.Process, open func(n int), function string) int64 {
	t.Helper()
	const first, sockets = 5, 20
	awaitIn(t, p, function, 0) // the last test's are gone
	open(first)
	awaitIn(t, p, function, first)
	before := held(t, p)
	open(sockets)
	awaitIn(t, p, function, first+sockets)
	each := (held(t, p) - before) / sockets
	t.Logf("%d bytes", each)
	return each
}

// held is what the heap and the stacks of the process take, in bytes, without what
// pools would give back.
func held(t *testing.T, p *wstest.Process) int64 {
	t.Helper()
	p.MemStats(t)
	p.MemStats(t)
	m := p.MemStats(t)
	return int64(m.HeapAlloc + m.StackInuse)
}

// awaitIn waits until there are n sockets, and all of them wait in the given
// function.
func awaitIn(t *testing.T, p *wstest.Process, function string, n int) {
	t.Helper()
	deadline := time.Now().Add(wstest.Timeout)
	for seen := 0; seen < 3; { // one may go on at once
		open, waiting := len(p.Sessions(t, "")), goroutinesIn(t, p, function)
		if seen++; open != n || waiting != n {
			seen = 0
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d sockets are in %s, want %d", waiting, open, function, n)
		}
	}
}

// goroutinesIn is how many goroutines of the process are in the given function.
func goroutinesIn(t *testing.T, p *wstest.Process, function string) (n int) {
	t.Helper()
	_, profile, _ := strings.Cut(p.Get(t, "/debug/pprof/goroutine?debug=1"), "\n")
	for group := range strings.SplitSeq(profile, "\n\n") {
		if !strings.Contains(group, function+"+") {
			continue
		}
		var count int
		if _, err := fmt.Sscanf(strings.TrimSpace(group), "%d @", &count); err != nil {
			t.Fatalf("%v in %q", err, group)
		}
		n += count
	}
	return n
}
