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

// Clients that stop within a message hold little more than they have sent,
// whatever they have announced.
func TestMemoryOfStalledClients(t *testing.T) {
	const (
		announced = 8 << 20 // bytes, of a frame's payload
		short     = 4000    // fits in the receive buffer
		most      = 48 << 10
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
		{"a small buffer's fill, compressed", "/", compressed[:4200], most + 5*4200},
		{"a medium buffer's fill, compressed", "/", compressed[:16600], most + 5*16600},
		{"a block's fill, compressed", "/", compressed[:66_000], most + 5*66_000},
		{"100 bytes of a frame", "/", plain[:100], most},
		{"100 bytes of a frame that fits", "/", wstest.ClientFrame(ws.FinBit|byte(ws.OpText), []byte(wstest.Letters(short)))[:100], most},
		{"a small buffer's fill", "/", plain[:4200], most + 16*4200},
		{"a block's fill", "/", plain[:66_000], most + 5*66_000},
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
				const first, sockets = 5, 50
				awaitStalled(t, p, 0) // the last test's are gone
				open(first)
				awaitStalled(t, p, first)
				before := held(t, p)
				open(sockets)
				awaitStalled(t, p, first+sockets)
				each := (held(t, p) - before) / sockets
				t.Logf("%d bytes", each)
				if each > s.most {
					t.Errorf("a client that has sent %d bytes holds %d, want %d at most", len(s.start), each, s.most)
				}
			})
		}
	}
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

// awaitStalled waits until there are n sockets, and the server waits for the rest
// of something on all of them.
func awaitStalled(t *testing.T, p *wstest.Process, n int) {
	t.Helper()
	deadline := time.Now().Add(wstest.Timeout)
	for seen := 0; seen < 5; { // a read may be one of several
		open, reading := len(p.Sessions(t, "")), countReading(t, p)
		if seen++; open != n || reading != n {
			seen = 0
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server waits for the rest on %d sockets of %d, want %d", reading, open, n)
		}
	}
}

// countReading is how many sockets the server has begun to read something from.
func countReading(t *testing.T, p *wstest.Process) (n int) {
	t.Helper()
	_, profile, _ := strings.Cut(p.Get(t, "/debug/pprof/goroutine?debug=1"), "\n")
	for group := range strings.SplitSeq(profile, "\n\n") {
		if !strings.Contains(group, "ws.(*Reader).read+") {
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
