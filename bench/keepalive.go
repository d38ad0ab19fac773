package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

const (
	keepaliveHandler = `{"handler": "websocket", "keepalive_interval": "30s"}`
)

// keepaliveTime returns how long keepalive is measured: two Pings for each socket.
func (p plan) keepaliveTime() time.Duration {
	if p.rounds == 1 {
		return time.Second
	}
	return time.Minute
}

// measureKeepalive measures the CPU time that it takes to keep many idle sockets alive,
// and prints it.
func measureKeepalive(b *build, p plan, w io.Writer) error {
	fmt.Fprintln(os.Stderr, "keepalive")
	running, err := b.caddy("caddy", keepaliveHandler)(false)
	if err != nil {
		return err
	}
	defer running.stop()
	failed := make(chan error, p.keptAlive)
	d := &dialer{addr: running.addr, over: overTCP}
	for range p.keptAlive {
		c, err := d.dial()
		if err != nil {
			return err
		}
		defer c.close()
		go func() { failed <- c.answerPings() }()
	}
	before, err := running.cpuTime()
	if err != nil {
		return err
	}
	started := time.Now()
	select {
	case err := <-failed:
		return fmt.Errorf("keepalive: %w", err)
	case <-time.After(p.keepaliveTime()):
	}
	elapsed := time.Since(started)
	after, err := running.cpuTime()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%d idle sockets with `keepalive 30s` take %.2f%% of a CPU.\n", p.keptAlive, 100*(after-before).Seconds()/elapsed.Seconds())
	return nil
}

// answerPings answers Pings until that fails.
func (c *client) answerPings() error {
	frame := make([]byte, 2+8)
	for {
		if _, err := io.ReadFull(c.in, frame); err != nil {
			return err
		}
		if frame[0] != 0x80|opPing || frame[1] != 8 {
			return fmt.Errorf("frame % x is not a Ping of 8 bytes", frame)
		}
		if _, err := c.conn.Write(appendMasked(nil, opPong, frame[2:])); err != nil {
			return err
		}
	}
}
