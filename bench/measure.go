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
// does something again and again, n of it each time.
func turns(servers []*server, cells []*cell, p plan, n int, turn func(i int) error) error {
	for round := range p.rounds + 1 {
		for i, s := range servers {
			c := cells[i]
			if round == 0 {
				c = new(cell) // all is cold yet
			}
			if err := c.measure(s.running, p.turn, n, func() error { return turn(i) }); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	return nil
}

// measure measures one turn.
func (c *cell) measure(p *process, length time.Duration, n int, do func() error) error {
	before, err := p.cpuTime()
	if err != nil {
		return err
	}
	begun, count := time.Now(), 0
	for last := begun; count == 0 || last.Sub(begun) < length; count += n {
		if err := do(); err != nil {
			return err
		}
		now := time.Now()
		c.took = append(c.took, now.Sub(last))
		last = now
	}
	elapsed := time.Since(begun)
	after, err := p.cpuTime()
	if err != nil {
		return err
	}
	// Seconds per million are microseconds each.
	c.cpu = append(c.cpu, float64((after-before).Nanoseconds())/1e3/float64(count))
	c.rate = append(c.rate, float64(count)/elapsed.Seconds())
	return nil
}

// exchanges measures one load: what it costs when so many sockets are at it,
// and how long one waits that is alone.
func exchanges(servers []*server, cells []*cell, p plan, l *load) error {
	fmt.Fprintf(os.Stderr, "%s\n", l.name)
	clients := make([][]*client, len(servers))
	for i, s := range servers {
		for range l.sockets {
			c, err := s.dial()
			if err != nil {
				return err
			}
			defer c.close()
			c.prepare(l)
			clients[i] = append(clients[i], c)
		}
	}
	err := turns(servers, cells, p, l.sockets*len(l.payloads), func(i int) error { return exchange(clients[i], l) })
	if err != nil {
		return err
	}
	alone := make([]*cell, len(servers))
	for i := range alone {
		alone[i] = new(cell)
	}
	p.rounds = max(1, p.rounds/3)
	err = turns(servers, alone, p, len(l.payloads), func(i int) error { return exchange(clients[i][:1], l) })
	for i, c := range cells {
		c.took = alone[i].took
	}
	return err
}

// atOnce is how many sockets are opened together, which wakes a server once.
const atOnce = 16

// handshakes measures how sockets are opened and closed.
func handshakes(servers []*server, cells []*cell, p plan) error {
	fmt.Fprintln(os.Stderr, handshakeColumn)
	return turns(servers, cells, p, atOnce, func(i int) error {
		s := servers[i]
		var clients [atOnce]*client
		for j := range clients {
			c, err := knock(s.running.addr, s.config, s.raw)
			if err != nil {
				return err
			}
			defer c.close()
			clients[j] = c
		}
		for _, c := range clients {
			if err := c.enter(); err != nil {
				return err
			}
		}
		return nil
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
			if err := exchange([]*client{c}, small); err != nil {
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
