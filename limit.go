package caddywebsocket

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// retryAfter is what a client is told to wait, in seconds, when there are too
// many open sockets.
const retryAfter = 10

// A limiter counts the open sockets of a handler, in all and by client IP.
type limiter struct {
	total, perClient int // 0: no limit

	mu      sync.Mutex // guards the counts
	open    int
	clients map[string]int
}

// acquire counts a socket in, unless that would be one too many. The error
// carries the status of the answer, for which h gets the headers.
func (l *limiter) acquire(h http.Header, client string) error {
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
func (l *limiter) release(client string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.perClient > 0 {
		if l.clients[client]--; l.clients[client] == 0 {
			delete(l.clients, client)
		}
	}
}
