package caddywebsocket

import (
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"weak"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// retryAfter is what a client is told to wait, in seconds, when there are too
// many open sockets.
const retryAfter = 10

// A limiter limits the open sockets of a handler, in all and by client.
type limiter struct {
	total, perClient int // 0: no limit

	mu     sync.Mutex // guards counts and what they hold, with their own lock
	counts *openCounts
}

// openCounts are the open sockets of all handlers that stand at one place in configs
// that follow each other, or else a reload would be a way around the limits.
type openCounts struct {
	mu      sync.Mutex // guards the following
	open    int
	clients map[string]int // by network
}

func newLimiter(total, perClient int) *limiter {
	return &limiter{total: total, perClient: perClient, counts: newOpenCounts()}
}

func newOpenCounts() *openCounts { return &openCounts{clients: make(map[string]int)} }

// limits are the counts of all places.
var limits = places{counts: make(map[string]weak.Pointer[openCounts])}

// places knows counts for as long as a handler or one of its sockets does.
type places struct {
	mu     sync.Mutex // guards counts
	counts map[string]weak.Pointer[openCounts]
}

// at returns the counts of a place.
func (p *places) at(name string) *openCounts {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.counts[name].Value(); c != nil {
		return c
	}
	maps.DeleteFunc(p.counts, func(_ string, c weak.Pointer[openCounts]) bool { return c.Value() == nil })
	c := newOpenCounts()
	p.counts[name] = weak.Make(c)
	return c
}

// countTogether has the limiter count with others. What it has counted already is
// added.
func (l *limiter) countTogether(with *openCounts) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if with == l.counts {
		return
	}
	with.mu.Lock()
	defer with.mu.Unlock()
	with.open += l.counts.open
	for client, n := range l.counts.clients {
		with.clients[client] += n
	}
	l.counts = with
}

// clientNetwork is what one client has for its own of the address ip: all of an
// IPv4 address, and the /64 of an IPv6 address, within which a client can take as
// many as it likes (RFC 8981). What is no address counts as it is.
func clientNetwork(ip string) string {
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

// acquire counts a socket of the client with the given IP address in, unless that
// would be one too many. The error carries the status of the answer, for which h
// gets the headers.
func (l *limiter) acquire(h http.Header, ip string) error {
	client := clientNetwork(ip)
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counts
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	switch {
	case l.total > 0 && c.open >= l.total:
		err = fmt.Errorf("max_connections: %d sockets are open", c.open)
	case l.perClient > 0 && c.clients[client] >= l.perClient:
		err = fmt.Errorf("max_connections: %d sockets of client %s are open", c.clients[client], client)
	}
	if err != nil {
		h.Set("Retry-After", strconv.Itoa(retryAfter))
		return caddyhttp.Error(http.StatusServiceUnavailable, err)
	}
	c.open++
	c.clients[client]++
	return nil
}

// release counts a socket out.
func (l *limiter) release(ip string) {
	client := clientNetwork(ip)
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counts
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	if c.clients[client]--; c.clients[client] == 0 {
		delete(c.clients, client)
	}
}
