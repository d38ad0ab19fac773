package caddywebsocket

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/gorilla/websocket"
)

// echoUpstream is a WebSocket server that sends back what it gets.
func echoUpstream(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go serveEcho(ln)
	return ln.Addr().String()
}

// serveEcho serves gorilla's idea of an echo.
func serveEcho(ln net.Listener) {
	upgrader := websocket.Upgrader{ReadBufferSize: 64 << 10, WriteBufferSize: 64 << 10, EnableCompression: true}
	http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		echoMessages(conn)
	}))
}

// echoMessages is the loop that gorilla's documentation shows.
func echoMessages(conn *websocket.Conn) {
	defer conn.Close()
	for {
		kind, message, err := conn.ReadMessage()
		if err != nil || conn.WriteMessage(kind, message) != nil {
			return
		}
	}
}

// echoWithGorilla accepts a socket and sends every message back.
func echoWithGorilla(w http.ResponseWriter, r *http.Request) {
	upgrader := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	echoMessages(conn)
}

// An application echoes on the sockets that it accepts, and keeps the requests.
type application struct {
	*httptest.Server
	mu       sync.Mutex // guards requests
	requests []*http.Request
}

func startApplication(t *testing.T) *application {
	t.Helper()
	a := new(application)
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	return a
}

func (a *application) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.requests = append(a.requests, r)
	a.mu.Unlock()
	if websocket.IsWebSocketUpgrade(r) {
		echoWithGorilla(w, r)
		return
	}
	fmt.Fprint(w, "no socket")
}

// received are the requests so far.
func (a *application) received() []*http.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.requests)
}

func (a *application) address() string { return a.Listener.Addr().String() }
