package examples

import (
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// An instance is one of several of an application. It can be killed.
type instance struct {
	address string
	mu      sync.Mutex // guards the following
	server  *http.Server
	conns   []net.Conn
	sockets int
}

func startInstance(t *testing.T) *instance {
	t.Helper()
	i := new(instance)
	i.listen(t, "127.0.0.1:0")
	t.Cleanup(i.kill)
	return i
}

func (i *instance) listen(t *testing.T, address string) {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.address = ln.Addr().String()
	i.server = &http.Server{Handler: i, ConnState: i.note}
	go i.server.Serve(ln)
}

// note keeps the connections, also those that sockets take over.
func (i *instance) note(c net.Conn, state http.ConnState) {
	if state == http.StateNew {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.conns = append(i.conns, c)
	}
}

func (i *instance) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/healthz" {
		return
	}
	i.mu.Lock()
	i.sockets++
	i.mu.Unlock()
	wstest.EchoWithGorilla(w, r)
}

// kill ends the instance without a word to anybody.
func (i *instance) kill() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.server.Close()
	for _, c := range i.conns {
		c.Close()
	}
	i.conns = nil
}

// accepted is how many sockets there have been.
func (i *instance) accepted() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.sockets
}

func startLoadBalancing(t *testing.T, instances []*instance) *wstest.Process {
	t.Helper()
	return startExample(t, "load-balancing", "http://localhost:8080", "http://localhost:0",
		"localhost:3001", instances[0].address, "localhost:3002", instances[1].address,
		"localhost:3003", instances[2].address,
		"fail_duration 30s", "fail_duration 200ms", "health_interval 10s", "health_interval 50ms")
}

func TestExampleLoadBalancing(t *testing.T) {
	t.Parallel()
	instances := []*instance{startInstance(t), startInstance(t), startInstance(t)}
	p := startLoadBalancing(t, instances)
	var clients []*wstest.Peer
	for range 6 {
		clients = append(clients, dialEcho(t, p))
	}
	for i, instance := range instances {
		if n := instance.accepted(); n != 2 {
			t.Errorf("instance %d has %d of 6 sockets, want 2", i, n)
		}
	}

	cookies := make(map[string][]*wstest.Peer)
	for _, c := range clients {
		cookies[cookie(t, c)] = append(cookies[cookie(t, c)], c)
	}
	first := cookie(t, clients[0])
	killed := instances[0]
	for _, i := range instances {
		before := i.accepted()
		dialEcho(t, p, "Cookie", first)
		if i.accepted() > before {
			killed = i
		}
	}
	killed.kill()
	for c, clients := range cookies {
		for _, client := range clients {
			if c == first {
				client.ExpectClose(1012, "")
			} else {
				client.Echo(ws.OpText, "not disturbed")
			}
		}
	}
	accepted := killed.accepted()
	for range 4 {
		dialEcho(t, p)
		dialEcho(t, p, "Cookie", first)
	}
	if killed.accepted() != accepted {
		t.Error("an instance has sockets after its end")
	}

	killed.listen(t, killed.address)
	for deadline := time.Now().Add(wstest.Timeout); killed.accepted() == accepted; {
		dialEcho(t, p) // it has the fewest sockets
		if time.Now().After(deadline) {
			t.Fatal("an instance that is back gets no sockets")
		}
	}
}

// dialEcho opens a socket that echoes.
func dialEcho(t *testing.T, p *wstest.Process, header ...string) *wstest.Peer {
	t.Helper()
	client := p.Dial(t, "http1", "/", header...)
	client.Echo(ws.OpText, "hello")
	return client
}

// cookie is the one that the client was given with the answer to its handshake.
func cookie(t *testing.T, client *wstest.Peer) string {
	t.Helper()
	for _, c := range client.Response.Cookies() {
		if c.Name == "instance" {
			return c.Name + "=" + c.Value
		}
	}
	t.Fatalf("no cookie in %v", client.Response.Header)
	return ""
}

// Two Caddys know nothing of each other: the clients of one that ends come back to
// the other, and to the same instance.
func TestExampleLoadBalancingBySeveral(t *testing.T) {
	t.Parallel()
	instances := []*instance{startInstance(t), startInstance(t), startInstance(t)}
	ends, stays := startLoadBalancing(t, instances), startLoadBalancing(t, instances)
	client := dialEcho(t, ends)
	returns := cookie(t, client)
	other := dialEcho(t, stays)
	for _, p := range []*wstest.Process{ends, stays} {
		_, answer, err := p.Call(http.MethodGet, "/websocket/sessions", nil)
		var listed []any
		if err != nil || json.Unmarshal([]byte(answer), &listed) != nil || len(listed) != 1 {
			t.Errorf("%d sockets are listed, %v, want the one of this Caddy: %s", len(listed), err, answer)
		}
	}
	ends.Terminate(t)
	client.ExpectClose(1012, "")
	client.SendClose(1012, "")
	client.ExpectEnd()
	client.Conn.Close()
	ends.ExpectExit(t)
	other.Echo(ws.OpText, "not disturbed")
	for range 3 {
		again := dialEcho(t, stays, "Cookie", returns)
		if set := strings.Join(again.Response.Header["Set-Cookie"], ""); set != "" {
			t.Errorf("a client that comes back is sent elsewhere: %s", set)
		}
	}
	var with int
	for _, i := range instances {
		if i.accepted() >= 4 {
			with++
		}
	}
	if with != 1 {
		t.Error("the client didn't come back to its instance")
	}
}
