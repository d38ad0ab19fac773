//go:build linux && amd64 && !race

package budget

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// A waiting socket has had a message and a Ping. What it takes of stack depends on the deepest
// call that its goroutines have ever made (see onOwnStack).
func TestIdle(t *testing.T) {
	compareWithBudget(t, func(t *testing.T, found func(number)) {
		onEach(t, func(t *testing.T, mode, protocol string) {
			if protocol != "http3" { // whose heap is what a late acknowledgment makes of it
				t.Parallel()
			}
			u := wstest.ListenUpstream(t)
			p := serve(t, wstest.NewProcess(t, "run", "--config", "-"), site(u, "keepalive 300ms 1m"))
			idle := func(lots int) memoryStats {
				pingedSockets(t, p, u, mode, protocol, lots)
				return memoryOf(t, p, "?gc")
			}
			const lots = 2
			before, after := idle(1), idle(lots)
			heap := (after.HeapAlloc - before.HeapAlloc) / (lots * lot)
			stack := (after.StackInuse - before.StackInuse) / (lots * lot)
			found(number{mode, "bytes of live heap per idle socket", protocol, heap, tolerance{0, heapNoise[protocol]}})
			found(number{mode, "bytes of stack per idle socket", protocol, stack, tolerance{2 << 10, 0.15}})
		})
	})
}

// heapNoise is the part of the live heap that differs from run to run. QUIC keeps what it has
// sent until that is acknowledged.
var heapNoise = map[string]float64{"http1": 0.1, "tls": 0.1, "http2": 0.1, "http3": 0.15}

// lot is how many sockets share a connection on HTTP/2 and HTTP/3, of 100 that QUIC allows. Of
// what the connection itself takes, each counts that part.
const lot = 75

// pingedSockets opens lots of sockets, and waits until each has answered a Ping.
func pingedSockets(t *testing.T, p *wstest.Process, u *wstest.Upstream, mode, protocol string, lots int) {
	t.Helper()
	var opened []*socket
	for i := range lots * lot {
		if i%lot == 0 {
			p.ShareConnections(t)
		}
		c := open(t, &p.Server, u, mode, protocol, 1)
		c.send(t)
		opened = append(opened, c)
	}
	for _, c := range opened {
		c.answerPing()
	}
	awaitSleep(t, p.Cmd.Process.Pid)
}

// answerPing receives a reply and a Ping, which may come first, and answers that.
func (c *socket) answerPing() {
	for replied, pinged := false, false; !replied || !pinged; {
		if f := c.client.ReadFrame(); f.Opcode() != ws.OpPing {
			replied = true
		} else if !pinged {
			pinged = true
			c.client.Send(ws.OpPong, string(f.Payload))
		}
	}
}

// The size of a stack is a power of two, so not every frame that grows makes one larger. It
// makes what is in use more, which is counted for the goroutines that are in this module.
func TestStackInUse(t *testing.T) {
	compareWithBudget(t, func(t *testing.T, found func(number)) {
		onEach(t, func(t *testing.T, mode, protocol string) {
			t.Parallel()
			u := wstest.ListenUpstream(t)
			p := serve(t, wstest.NewProcess(t, "run", "--config", "-"), site(u, ""))
			open(t, &p.Server, u, mode, protocol, 1).exchange(t)
			awaitSleep(t, p.Cmd.Process.Pid)
			found(number{mode, "bytes of stack in use", protocol, stackInUse(p.Abort(t)), tolerance{256, 0}})
		})
	})
}

// frame is a stack frame in what Go prints with GOTRACEBACK=system.
var frame = regexp.MustCompile(`fp=0x([0-9a-f]+) sp=0x([0-9a-f]+)`)

// stackInUse is how many bytes of their stacks the goroutines use that are in this module.
func stackInUse(stacks string) (sum float64) {
	for goroutine := range strings.SplitSeq(stacks, "\n\n") {
		if !strings.Contains(goroutine, "caddy-websocket.(*") {
			continue
		}
		frames := frame.FindAllStringSubmatch(goroutine, -1)
		top, _ := strconv.ParseUint(frames[len(frames)-1][1], 16, 64)
		bottom, _ := strconv.ParseUint(frames[0][2], 16, 64)
		sum += float64(top - bottom)
	}
	return sum
}
