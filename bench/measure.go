package main

import (
	"crypto/tls"
	"fmt"
	"os"
	"time"
)

// A cell is what was measured of one server under one load, each value once a
// round.
type cell struct {
	cpu  []float64 // seconds of the server's per million messages
	rate []float64 // messages per second
	took []time.Duration
}

// A server is one that runs, with a socket for each load.
type server struct {
	*peer
	running *process
	config  *tls.Config // nil without TLS
}

func (s *server) dial() (*client, error) {
	c, err := dial(s.running.addr, s.config, s.raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return c, nil
}

// start starts a peer.
func (t *table) start(p *peer, secure bool) (*server, error) {
	running, err := p.start(secure)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	s := &server{peer: p, running: running}
	if secure {
		s.config = t.cert.client
	}
	return s, nil
}

// turns has the servers take turns, so that all have the same weather. A turn
// exchanges something until its time is over, and counts how much.
func turns(servers []*server, cells []*cell, p plan, turn func(i int, took *[]time.Duration) (count int, err error)) error {
	for round := range p.rounds + 1 {
		for i, s := range servers {
			c := cells[i]
			if round == 0 {
				c = new(cell) // all is cold yet
			}
			cpu, err := s.running.cpuTime()
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			begun, count := time.Now(), 0
			for count == 0 || time.Since(begun) < p.turn {
				n, err := turn(i, &c.took)
				if err != nil {
					return fmt.Errorf("%s: %w", s.name, err)
				}
				count += n
			}
			elapsed := time.Since(begun)
			after, err := s.running.cpuTime()
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			// Seconds per million are microseconds each.
			c.cpu = append(c.cpu, float64((after-cpu).Nanoseconds())/1e3/float64(count))
			c.rate = append(c.rate, float64(count)/elapsed.Seconds())
		}
	}
	return nil
}

// exchanges measures one load.
func exchanges(servers []*server, cells []*cell, p plan, l *load) error {
	clients := make([]*client, len(servers))
	for i, s := range servers {
		c, err := s.dial()
		if err != nil {
			return err
		}
		defer c.close()
		c.prepare(l)
		clients[i] = c
	}
	fmt.Fprintf(os.Stderr, "%s\n", l.name)
	return turns(servers, cells, p, func(i int, took *[]time.Duration) (int, error) {
		begun := time.Now()
		err := clients[i].exchange(l)
		*took = append(*took, time.Since(begun))
		return len(l.payloads), err
	})
}

// handshakes measures how sockets are opened and closed.
func handshakes(servers []*server, cells []*cell, p plan) error {
	fmt.Fprintln(os.Stderr, "handshakes")
	return turns(servers, cells, p, func(i int, took *[]time.Duration) (int, error) {
		begun := time.Now()
		c, err := servers[i].dial()
		if err != nil {
			return 0, err
		}
		*took = append(*took, time.Since(begun))
		c.close()
		return 1, nil
	})
}

// warmUp is how many sockets are opened before it counts what one takes.
const warmUp = 20

// idle measures how much memory a socket takes that has had one message.
func (t *table) idle(p *peer, secure bool) (float64, error) {
	s, err := t.start(p, secure)
	if err != nil {
		return 0, err
	}
	defer s.running.stop()
	small := newLoad("", binaryPayloads(125, 1))
	open := func(n int) (int64, error) {
		for range n {
			c, err := s.dial()
			if err != nil {
				return 0, err
			}
			t.idlers = append(t.idlers, c)
			if err := c.exchange(small); err != nil {
				return 0, fmt.Errorf("%s: %w", p.name, err)
			}
		}
		return s.running.resident()
	}
	defer t.closeIdlers()
	before, err := open(warmUp)
	if err != nil {
		return 0, err
	}
	after, err := open(t.plan.sockets)
	return float64(after-before) / float64(t.plan.sockets), err
}

func (t *table) closeIdlers() {
	for _, c := range t.idlers {
		c.close()
	}
	t.idlers = nil
}
