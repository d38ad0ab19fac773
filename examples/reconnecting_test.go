package examples

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// subscriptions serves what the clients in testdata/clients subscribe to. It gives the
// test each of its connections.
func subscriptions(t *testing.T) (address string, conns <-chan *websocket.Conn) {
	t.Helper()
	accepted := make(chan *websocket.Conn, 10)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		upgrader := websocket.Upgrader{Subprotocols: websocket.Subprotocols(r)}
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer conn.Close()
		accepted <- conn
		for {
			_, message, err := conn.ReadMessage()
			if err != nil {
				return
			}
			if bytes.Contains(message, []byte("connection_init")) {
				_ = conn.WriteMessage(websocket.TextMessage, []byte(`{"type":"connection_ack"}`))
			}
		}
	}))
	t.Cleanup(app.Close)
	return app.Listener.Addr().String(), accepted
}

// A relay is an address that stays while what is behind it is restarted. Clients wait in
// it until there is something again.
type relay struct {
	net.Listener
	target chan string // holds the address behind, if there is one
}

func startRelay(t *testing.T, target string) *relay {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	r := &relay{ln, make(chan string, 1)}
	r.target <- target
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go r.serve(conn)
		}
	}()
	return r
}

func (r *relay) serve(client net.Conn) {
	defer client.Close()
	target := <-r.target
	r.target <- target
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	done := make(chan struct{})
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.(*net.TCPConn).CloseWrite()
		close(done)
	}()
	_, _ = io.Copy(client, server)
	_ = client.(*net.TCPConn).CloseWrite()
	<-done
}

// Real clients reconnect after a restart, a reload and a lost application, although they
// treat some close codes as final.
func TestClientsReconnect(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		client, pack string
		end, option  string
		givesUp      bool
	}{
		{client: "jupyter", pack: "@jupyterlab/services", end: "restart"},
		{client: "jupyter", pack: "@jupyterlab/services", end: "reload"},
		{client: "jupyter", pack: "@jupyterlab/services", end: "application"},
		{client: "graphql", pack: "graphql-ws", end: "restart"},
		{client: "graphql", pack: "graphql-ws", end: "reload"},
		{client: "graphql", pack: "graphql-ws", end: "application"},
		// The codes that are usual elsewhere.
		{client: "jupyter", pack: "@jupyterlab/services", end: "restart", option: "close_code shutdown 1001", givesUp: true},
		{client: "graphql", pack: "graphql-ws", end: "application", option: "close_code upstream 1011", givesUp: true},
	} {
		t.Run(c.client+" "+c.end+" "+c.option, func(t *testing.T) {
			t.Parallel()
			app, conns := subscriptions(t)
			site := "websocket passthrough {\nallowed_origins *\nclose_delay 10ms\n" + c.option + "\n}\nreverse_proxy " + app
			p := wstest.StartProcess(t, "", site)
			r := startRelay(t, p.Plain)
			node := startNode(t, "../testdata/clients", c.pack, "../testdata/clients/"+c.client+".js", "ws://"+r.Addr().String()+"/")
			node.await(t, "open")
			conn := <-conns
			switch c.end {
			case "restart":
				<-r.target
				p.Terminate(t)
				p.ExpectExit(t)
				r.target <- wstest.StartProcess(t, "", site).Plain
			case "reload":
				<-r.target
				p.Reload(t, "", site+"\nheader X-Config new")
				address, _ := p.Addresses()
				r.target <- address
			case "application":
				_ = conn.NetConn().Close()
			}
			if c.givesUp {
				node.await(t, "gave up")
			} else {
				node.await(t, "open")
			}
		})
	}
}
