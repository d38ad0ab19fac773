package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// The benchmarks below compare passthrough with plain reverse_proxy: Caddy in a
// process of its own, client and upstream in this one. What they report besides
// a time is a ratio, passthrough to plain, of what the kernel or Caddy's runtime
// says of that process.

// benchSite has the same upstream behind reverse_proxy alone and supervised.
const benchSite = "respond /no-socket 204\nwebsocket /supervised passthrough {\nallowed_origins *\n}\nreverse_proxy %s"

// dialBench opens a socket over plain HTTP/1.1.
func dialBench(b *testing.B, p *wstest.Process, path string) net.Conn {
	b.Helper()
	conn, _, err := websocket.DefaultDialer.Dial("ws://"+p.Plain+path, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	return conn.NetConn()
}

// cpuTime is the time that a process has spent on processors, in nanoseconds.
func cpuTime(b *testing.B, pid int) int64 {
	b.Helper()
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	var sum int64
	for _, task := range tasks {
		data, _ := os.ReadFile(task) // a thread may have ended
		if fields := strings.Fields(string(data)); len(fields) > 0 {
			ns, _ := strconv.ParseInt(fields[0], 10, 64)
			sum += ns
		}
	}
	if sum == 0 {
		b.Skip("this system doesn't tell the CPU time of another process")
	}
	return sum
}

func BenchmarkPassthroughCPU(b *testing.B) {
	for _, size := range []int{125, 4 << 10, 64 << 10, 1 << 20} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			p := wstest.StartProcess(b, "", fmt.Sprintf(benchSite, wstest.EchoUpstream(b)))
			plain, supervised := dialBench(b, p, "/plain"), dialBench(b, p, "/supervised")
			message := wstest.ClientFrame(ws.FinBit|byte(ws.OpBinary), make([]byte, size))
			reply := make([]byte, ws.HeaderLen(size)+size)
			round := func(conn net.Conn, n int) int64 {
				before := cpuTime(b, p.Cmd.Process.Pid)
				for range n {
					go conn.Write(message)
					if _, err := io.ReadFull(conn, reply); err != nil {
						b.Fatal(err)
					}
				}
				return cpuTime(b, p.Cmd.Process.Pid) - before
			}
			// Short rounds in turn, so that both have the same weather.
			n := max(5, min(1000, 8<<20/size))
			round(plain, n)
			round(supervised, n)
			var of [2]int64
			messages := 0
			for b.Loop() {
				of[0] += round(plain, n)
				of[1] += round(supervised, n)
				messages += n
			}
			b.ReportMetric(float64(of[0])/float64(messages), "plain-ns/msg")
			b.ReportMetric(float64(of[1])/float64(messages), "supervised-ns/msg")
			b.ReportMetric(float64(of[1])/float64(of[0]), "ratio")
		})
	}
}

func BenchmarkPassthroughIdle(b *testing.B) {
	const sockets = 1000
	for b.Loop() {
		var resident, live [2]float64
		for i, path := range []string{"/plain", "/supervised"} {
			p := wstest.StartProcess(b, "", fmt.Sprintf(benchSite, wstest.EchoUpstream(b)))
			open := func() {
				conn := dialBench(b, p, path)
				conn.Write(wstest.ClientFrame(ws.FinBit|byte(ws.OpText), []byte("hello")))
				if _, err := io.ReadFull(conn, make([]byte, 2+len("hello"))); err != nil {
					b.Fatal(err)
				}
			}
			for range 10 {
				open()
			}
			resident0, live0 := memory(b, p)
			for range sockets {
				open()
			}
			resident1, live1 := memory(b, p)
			resident[i] = float64(resident1-resident0) / sockets
			live[i] = float64(live1-live0) / sockets
		}
		b.ReportMetric(resident[0], "plain-RSS-B")
		b.ReportMetric(resident[1], "supervised-RSS-B")
		b.ReportMetric(resident[1]/resident[0], "RSS-ratio")
		b.ReportMetric(live[0], "plain-live-B")
		b.ReportMetric(live[1], "supervised-live-B")
		b.ReportMetric(live[1]/live[0], "live-ratio")
	}
}

// memory is the resident memory of a Caddy, as it is, and then its live heap
// and stacks after a collection, in bytes.
func memory(b testing.TB, p *wstest.Process) (resident, live int64) {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.Cmd.Process.Pid))
	if err != nil {
		b.Skip("this system doesn't tell the memory of another process")
	}
	pages, err := strconv.ParseInt(strings.Fields(string(data))[1], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	stats := p.MemStats(b)
	return pages * int64(os.Getpagesize()), int64(stats.HeapAlloc + stats.StackInuse)
}

// BenchmarkHandshake opens and closes a socket, client included.
func BenchmarkHandshake(b *testing.B) {
	gorilla := httptest.NewServer(http.HandlerFunc(wstest.EchoWithGorilla))
	b.Cleanup(gorilla.Close)
	for _, server := range []struct{ name, addr string }{
		{"module", wstest.Start(b, "websocket").Plain},
		{"gorilla", gorilla.Listener.Addr().String()},
	} {
		b.Run(server.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				conn, _, err := websocket.DefaultDialer.Dial("ws://"+server.addr, nil)
				if err != nil {
					b.Fatal(err)
				}
				conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
				if _, err := io.Copy(io.Discard, conn.NetConn()); err != nil {
					b.Fatal(err)
				}
				conn.Close()
			}
		})
	}
}
