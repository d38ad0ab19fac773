// Package limit counts open sockets, meters what clients send, and queues what is done for
// many sockets.
package limit

import (
	"maps"
	"net/netip"
	"sync"
	"weak"
)

// A Claim is one of the counts that a socket takes part in.
type Claim struct {
	Key   string // what sockets are counted by
	Value string // the socket's
	Max   int    // how many sockets may be open that have this value; 0: any number
}

// id is what a claim has in common with others that are counted with it. Max may change
// with the config.
type id struct{ key, value string }

// Connections limits the open sockets of a handler.
type Connections struct {
	mu     sync.Mutex // guards counts; the lock of that is taken after this one
	counts *Counts
}

// Counts are the open sockets of all handlers that take the same place in configs that
// follow each other: a reload must not be a way around the limits.
type Counts struct {
	mu   sync.Mutex // guards open
	open map[id]int
}

// NewConnections returns Connections that count for themselves until CountTogether is
// called.
func NewConnections() *Connections { return &Connections{counts: newCounts()} }

func newCounts() *Counts { return &Counts{open: make(map[id]int)} }

// Acquire counts a socket in, unless that would be one too many for one of its claims. Then
// it returns the first of these and how many sockets are open that have the same.
func (c *Connections) Acquire(claims []Claim) (exceeded *Claim, open int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.mu.Lock()
	defer c.counts.mu.Unlock()
	for i := range claims {
		claim := &claims[i]
		if open := c.counts.open[id{claim.Key, claim.Value}]; claim.Max > 0 && open >= claim.Max {
			return claim, open
		}
	}
	for _, claim := range claims {
		c.counts.open[id{claim.Key, claim.Value}]++
	}
	return nil, 0
}

// Release counts a socket out that has been counted in with the same claims.
func (c *Connections) Release(claims []Claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.mu.Lock()
	defer c.counts.mu.Unlock()
	for _, claim := range claims {
		id := id{claim.Key, claim.Value}
		if c.counts.open[id]--; c.counts.open[id] == 0 {
			delete(c.counts.open, id)
		}
	}
}

// CountTogether makes c count with others from now on. What it has counted so far is added
// to theirs.
func (c *Connections) CountTogether(with *Counts) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if with == c.counts {
		return
	}
	with.mu.Lock()
	defer with.mu.Unlock()
	for id, n := range c.counts.open {
		with.open[id] += n
	}
	c.counts = with
}

// Places holds the counts of places in a config for as long as somebody counts there.
type Places struct {
	mu     sync.Mutex // guards counts
	counts map[string]weak.Pointer[Counts]
}

// At returns the counts of a place.
func (p *Places) At(name string) *Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.counts[name].Value(); c != nil {
		return c
	}
	if p.counts == nil {
		p.counts = make(map[string]weak.Pointer[Counts])
	}
	maps.DeleteFunc(p.counts, func(_ string, c weak.Pointer[Counts]) bool { return c.Value() == nil })
	c := newCounts()
	p.counts[name] = weak.Make(c)
	return c
}

// Network returns the network that a client with the given IP address has for itself: an
// IPv4 address, or the /64 of an IPv6 address, in which a client can use any number of
// addresses (RFC 8981). Anything but an address is returned as it is.
func Network(ip string) string {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return ip
	}
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		return addr.String()
	}
	return netip.PrefixFrom(addr, 64).Masked().String()
}
