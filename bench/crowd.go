package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// crowdSizes are the numbers of idle sockets with which -crowd measures. In passthrough, the
// server would need two descriptors for each, and the upstream a third.
var crowdSizes = []int{1, 1000, 10_000}

// crowdConfig is the format of the config of a server that has a crowd of sockets. Its
// arguments are a Unix socket for the admin API, and a handler.
const crowdConfig = `{
	"admin": {"listen": "unix/%s", "config": {"persist": false}},
	"apps": {"http": {"servers": {"bench": {
		"listen": ["127.0.0.1:0"],
		"automatic_https": {"disable": true},
		"routes": [{"handle": [%s]}]
	}}}}
}`

const keepaliveHandler = `{"handler": "websocket", "keepalive_interval": "30s"}`

// A crowd are many idle sockets of one server.
type crowd struct {
	server *process
	admin  *http.Client
	idle   []idleSocket
}

// An idleSocket is a socket whose client only answers Pings and a Close frame.
type idleSocket struct {
	*client
	closed chan error // gets a value when the Close frame has come
}

// measureCrowds measures how the costs of a server grow with its idle sockets, and prints that
// as a table.
func measureCrowds(b *build, p plan, w io.Writer) error {
	fmt.Fprintln(w, "\n| idle sockets | bytes per socket | `keepalive 30s`, % of a CPU | echo of 125 B in µs: median, 99%, 99.9% | "+
		"scrape of metrics in ms | list of sessions in ms | closing all in ms | exit in ms |\n|---:|---:|---:|---:|---:|---:|---:|---:|")
	for _, n := range p.crowds {
		fmt.Fprintf(os.Stderr, "crowd of %d\n", n)
		row, err := b.measureCrowd(n, p)
		if err != nil {
			return fmt.Errorf("crowd of %d: %w", n, err)
		}
		fmt.Fprintf(w, "| %d | %s |\n", n, strings.Join(row, " | "))
	}
	return nil
}

// measureCrowd returns a row of the table.
func (b *build) measureCrowd(n int, p plan) (row []string, err error) {
	c, err := b.newCrowd()
	if err != nil {
		return nil, err
	}
	defer c.stop()
	for _, measure := range []func() (string, error){
		func() (string, error) { return c.measureMemory(n) },
		func() (string, error) { return c.measureKeepalive(p) },
		func() (string, error) { return c.measureLatency(p) },
		func() (string, error) { return c.measureCall("/metrics") },
		func() (string, error) { return c.measureCall("/websocket/sessions") },
		c.measureClosing,
		func() (string, error) { return c.measureExit(n) },
	} {
		figure, err := measure()
		if err != nil {
			return nil, err
		}
		row = append(row, figure)
	}
	return row, nil
}

// newCrowd starts a server with an admin API.
func (b *build) newCrowd() (*crowd, error) {
	socket := filepath.Join(b.dir, "admin.sock")
	cmd := exec.Command(filepath.Join(b.dir, "caddy"), "run", "--config", "-")
	cmd.Stdin = strings.NewReader(fmt.Sprintf(crowdConfig, socket, keepaliveHandler))
	cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+b.dir, "XDG_CONFIG_HOME="+b.dir)
	running, err := start(cmd, b.cpus.server)
	if err != nil {
		return nil, err
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	return &crowd{server: running, admin: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}, nil
}

func (c *crowd) stop() {
	c.server.stop()
	for _, s := range c.idle {
		s.close()
	}
}

func (c *crowd) dial() (*client, error) { return (&dialer{addr: c.server.addr, over: overTCP}).dial() }

// open opens n more sockets, which are idle after one message.
func (c *crowd) open(n int) error {
	for range n {
		s := idleSocket{closed: make(chan error, 1)}
		var err error
		if s.client, err = c.dial(); err != nil {
			return err
		}
		c.idle = append(c.idle, s)
		if err := exchange([]*client{s.client}, smallLoad); err != nil {
			return err
		}
		go func() {
			s.closed <- s.awaitClose()
			_, _ = io.Copy(io.Discard, s.in) // the server closes its side of the connection first
			s.close()
		}()
	}
	return nil
}

// smallLoad is one message of 125 bytes.
var smallLoad = newLoad("", binaryPayloads(125, 1))

// awaitClose answers Pings until a Close frame has come, and answers that.
func (c *client) awaitClose() error {
	frame := make([]byte, 2+125)
	for {
		if _, err := io.ReadFull(c.in, frame[:2]); err != nil {
			return err
		}
		payload := frame[2 : 2+min(125, frame[1])]
		if _, err := io.ReadFull(c.in, payload); err != nil {
			return err
		}
		switch frame[0] {
		case 0x80 | opPing:
			if _, err := c.conn.Write(appendMasked(nil, opPong, payload)); err != nil {
				return err
			}
		case 0x80 | opClose:
			_, _ = c.conn.Write(appendMasked(nil, opClose, payload)) // the server may be gone
			return nil
		default:
			return fmt.Errorf("unexpected frame: % x", frame[:2])
		}
	}
}

// awaitClosed waits until the last socket has got its Close frame.
func (c *crowd) awaitClosed() error {
	for _, s := range c.idle {
		if err := <-s.closed; err != nil {
			return err
		}
	}
	return nil
}

// measureMemory opens n sockets and returns how much memory one of them takes, in bytes. A
// few are too few to tell.
func (c *crowd) measureMemory(n int) (string, error) {
	first := min(n, warmUpSockets)
	if err := c.open(first); err != nil {
		return "", err
	}
	before, err := c.server.resident()
	if err != nil {
		return "", err
	}
	if err := c.open(n - first); err != nil {
		return "", err
	}
	after, err := c.server.resident()
	if n <= first {
		return "-", err
	}
	return figure(float64(after-before) / float64(n-first)), err
}

// keepaliveTime returns how long keepalive is measured: two Pings for each socket.
func (p plan) keepaliveTime() time.Duration {
	if p.rounds == 1 {
		return time.Second
	}
	return time.Minute
}

// measureKeepalive returns how much of a CPU it takes to keep the sockets alive, in percent.
func (c *crowd) measureKeepalive(p plan) (string, error) {
	before, err := c.server.cpuTime()
	if err != nil {
		return "", err
	}
	started := time.Now()
	time.Sleep(p.keepaliveTime())
	elapsed := time.Since(started)
	after, err := c.server.cpuTime()
	return figure(100 * (after - before).Seconds() / elapsed.Seconds()), err
}

// crowdTurns is how many turns the measurements of one socket among the idle ones last.
const crowdTurns = 20

// measureLatency returns how long messages of one more socket take to come back, in
// microseconds.
func (c *crowd) measureLatency(p plan) (string, error) {
	socket, err := c.dial()
	if err != nil {
		return "", err
	}
	defer socket.close()
	var measured cell
	err = measured.measure(c.server, crowdTurns*p.turn, 1, func() error { return exchange([]*client{socket}, smallLoad) })
	if err != nil {
		return "", err
	}
	return formatLatency(&measured, nil), nil
}

// measureCall returns how long it takes to get something from the admin API, in milliseconds.
func (c *crowd) measureCall(path string) (string, error) {
	var times []time.Duration
	for range adminCalls {
		started := time.Now()
		if err := c.call(http.MethodGet, path); err != nil {
			return "", err
		}
		times = append(times, time.Since(started))
	}
	return milliseconds(quantile(times, .5)), nil
}

// adminCalls is how often a resource of the admin API is measured.
const adminCalls = 5

func milliseconds(d time.Duration) string { return figure(d.Seconds() * 1e3) }

// call calls the admin API and receives the answer.
func (c *crowd) call(method, path string) error {
	req, err := http.NewRequest(method, "http://localhost"+path, nil)
	if err != nil {
		return err
	}
	res, err := c.admin.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: %s", method, path, res.Status)
	}
	_, err = io.Copy(io.Discard, res.Body)
	return err
}

// measureClosing returns how long it takes to close all sockets by a filter of the admin API,
// in milliseconds, until the last one has got its Close frame.
func (c *crowd) measureClosing() (string, error) {
	started := time.Now()
	if err := c.call(http.MethodDelete, "/websocket/sessions?mode=echo"); err != nil {
		return "", err
	}
	err := c.awaitClosed()
	c.idle = nil
	return milliseconds(time.Since(started)), err
}

// measureExit returns how long the process takes to exit with n sockets, in milliseconds.
func (c *crowd) measureExit(n int) (string, error) {
	if err := c.open(n); err != nil {
		return "", err
	}
	started := time.Now()
	if err := c.server.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return "", err
	}
	if err := c.server.cmd.Wait(); err != nil {
		return "", err
	}
	took := time.Since(started)
	return milliseconds(took), c.awaitClosed()
}
