package main

import (
	"fmt"
	"os"
	"time"
)

// A cell holds the measurements of one server under one load.
type cell struct {
	cpu       []float64       // for each round, CPU seconds of the server per million messages
	rate      []float64       // for each round, messages per second
	latencies []time.Duration // for each exchange
}

// A server is a peer that has been started.
type server struct {
	*peer
	running *process
}

// dialer returns what opens sockets to the server.
func (t *table) dialer(s *server, over transport, share bool) (*dialer, error) {
	d, err := newDialer(s.running.addr, over, t.cert.client, s.raw, share)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return d, nil
}

// start starts a peer.
func (t *table) start(p *peer, secure bool) (*server, error) {
	running, err := p.start(secure)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	return &server{peer: p, running: running}, nil
}

// takeTurns makes the servers take turns, so that all are measured under the same
// conditions. For each server, by its index, it calls turn for as long as a turn lasts;
// each call does n things.
func takeTurns(servers []*server, cells []*cell, p plan, n int, turn func(i int) error) error {
	for round := range p.rounds + 1 {
		for i, s := range servers {
			c := cells[i]
			if round == 0 {
				c = new(cell) // the first round only warms up
			}
			if err := c.measure(s.running, p.turn, n, func() error { return turn(i) }); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	return nil
}

// measure measures one turn: it calls do, which does n things, for the given time.
func (c *cell) measure(p *process, length time.Duration, n int, do func() error) error {
	before, err := p.cpuTime()
	if err != nil {
		return err
	}
	started, count := time.Now(), 0
	for last := started; count == 0 || last.Sub(started) < length; count += n {
		if err := do(); err != nil {
			return err
		}
		now := time.Now()
		c.latencies = append(c.latencies, now.Sub(last))
		last = now
	}
	elapsed := time.Since(started)
	after, err := p.cpuTime()
	if err != nil {
		return err
	}
	// Seconds per million are microseconds per item.
	c.cpu = append(c.cpu, float64((after-before).Nanoseconds())/1e3/float64(count))
	c.rate = append(c.rate, float64(count)/elapsed.Seconds())
	return nil
}

// measureLoad measures one load: CPU time and rate with all its sockets, and latency with
// only one.
func (t *table) measureLoad(servers []*server, l *load) error {
	fmt.Fprintf(os.Stderr, "%s\n", l.name)
	cells, p := t.column(l.name, servers), t.plan
	clients := make([][]*client, len(servers))
	for i, s := range servers {
		d, err := t.dialer(s, l.over, l.share)
		if err != nil {
			return err
		}
		defer d.close()
		for range l.sockets {
			c, err := d.dial()
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			defer c.close()
			c.prepare(l)
			clients[i] = append(clients[i], c)
		}
	}
	err := takeTurns(servers, cells, p, l.sockets*len(l.payloads), func(i int) error { return exchange(clients[i], l) })
	if err != nil {
		return err
	}
	single := make([]*cell, len(servers))
	for i := range single {
		single[i] = new(cell)
	}
	p.rounds = max(1, p.rounds/3)
	err = takeTurns(servers, single, p, len(l.payloads), func(i int) error { return exchange(clients[i][:1], l) })
	for i, c := range cells {
		c.latencies = single[i].latencies
	}
	return err
}

// handshakeBatch is how many sockets are opened together, so that a server wakes up only
// once for all of them.
const handshakeBatch = 16

// measureHandshakes measures the opening and closing of sockets.
func (t *table) measureHandshakes(servers []*server) error {
	fmt.Fprintln(os.Stderr, handshakeColumn)
	dialers := make([]*dialer, len(servers))
	for i, s := range servers {
		var err error
		if dialers[i], err = t.dialer(s, overTCP, false); err != nil {
			return err
		}
	}
	return takeTurns(servers, t.column(handshakeColumn, servers), t.plan, handshakeBatch, func(i int) error {
		var clients [handshakeBatch]*client
		for j := range clients {
			c, err := dialers[i].startHandshake()
			if err != nil {
				return err
			}
			defer c.close()
			clients[j] = c
		}
		for _, c := range clients {
			if err := c.finishHandshake(); err != nil {
				return err
			}
		}
		return nil
	})
}

// warmUpSockets is how many sockets are opened before memory is first measured.
const warmUpSockets = 20

// measureIdle measures how much memory a socket takes that is idle after one message.
func (t *table) measureIdle(p *peer, over transport) (float64, error) {
	s, err := t.start(p, over != overTCP)
	if err != nil {
		return 0, err
	}
	defer s.running.stop()
	d, err := t.dialer(s, over, true)
	if err != nil {
		return 0, err
	}
	defer d.close()
	small := newLoad("", binaryPayloads(125, 1))
	open := func(n int) (int64, error) {
		for range n {
			c, err := d.dial()
			if err != nil {
				return 0, fmt.Errorf("%s: %w", p.name, err)
			}
			t.idle = append(t.idle, c)
			if err := exchange([]*client{c}, small); err != nil {
				return 0, fmt.Errorf("%s: %w", p.name, err)
			}
		}
		return s.running.resident()
	}
	defer t.closeIdle()
	before, err := open(warmUpSockets)
	if err != nil {
		return 0, err
	}
	after, err := open(t.plan.sockets)
	return float64(after-before) / float64(t.plan.sockets), err
}

func (t *table) closeIdle() {
	for _, c := range t.idle {
		c.close()
	}
	t.idle = nil
}
