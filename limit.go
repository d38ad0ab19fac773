package caddywebsocket

import (
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"sync"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// retryAfter is what a client is told to wait, in seconds, when there are too
// many open sockets.
const retryAfter = 10

// A limiter counts the open sockets of a handler, in all and by client.
type limiter struct {
	total, perClient int // 0: no limit

	mu      sync.Mutex // guards the counts
	open    int
	clients map[string]int // by network
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
	var err error
	switch {
	case l.total > 0 && l.open >= l.total:
		err = fmt.Errorf("max_connections: %d sockets are open", l.open)
	case l.perClient > 0 && l.clients[client] >= l.perClient:
		err = fmt.Errorf("max_connections: %d sockets of client %s are open", l.clients[client], client)
	}
	if err != nil {
		h.Set("Retry-After", strconv.Itoa(retryAfter))
		return caddyhttp.Error(http.StatusServiceUnavailable, err)
	}
	l.open++
	if l.perClient > 0 {
		l.clients[client]++
	}
	return nil
}

// release counts a socket out.
func (l *limiter) release(ip string) {
	client := clientNetwork(ip)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.perClient > 0 {
		if l.clients[client]--; l.clients[client] == 0 {
			delete(l.clients, client)
		}
	}
}
