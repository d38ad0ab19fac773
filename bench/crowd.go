package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

const (
	crowdKeepalive = `{"handler": "websocket", "keepalive_interval": "30s"}`
	crowdTime      = time.Minute // two pings for each socket
)

// keepCrowd measures what it takes to keep many idle sockets alive, and prints it.
func keepCrowd(b *build, p plan, w io.Writer) error {
	fmt.Fprintln(os.Stderr, "keepalive")
	running, err := b.caddy("caddy", crowdKeepalive)(false)
	if err != nil {
		return err
	}
	defer running.stop()
	failed := make(chan error, p.crowd)
	for range p.crowd {
		c, err := dial(running.addr, nil, false)
		if err != nil {
			return err
		}
		defer c.close()
		go func() { failed <- c.pong() }()
	}
	before, err := running.cpuTime()
	if err != nil {
		return err
	}
	begun := time.Now()
	wait := crowdTime
	if p.rounds == 1 {
		wait = time.Second
	}
	select {
	case err := <-failed:
		return fmt.Errorf("keepalive: %w", err)
	case <-time.After(wait):
	}
	elapsed := time.Since(begun)
	after, err := running.cpuTime()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%d idle sockets with `keepalive 30s` take %.2f%% of a CPU.\n", p.crowd, 100*(after-before).Seconds()/elapsed.Seconds())
	return nil
}

// pong answers pings until that fails.
func (c *client) pong() error {
	frame := make([]byte, 2+8)
	for {
		if _, err := io.ReadFull(c.in, frame); err != nil {
			return err
		}
		if frame[0] != 0x80|opPing || frame[1] != 8 {
			return fmt.Errorf("a frame that is no ping of 8 bytes: % x", frame)
		}
		if _, err := c.conn.Write(appendMasked(nil, opPong, frame[2:])); err != nil {
			return err
		}
	}
}
