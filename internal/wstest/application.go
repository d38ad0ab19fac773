package wstest

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/gorilla/websocket"
)

// EchoUpstream is a WebSocket server that sends back what it gets.
func EchoUpstream(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: echoHandler()}
	t.Cleanup(func() { srv.Close() })
	go srv.Serve(ln)
	return ln.Addr().String()
}

// ServeEcho serves gorilla's idea of an echo.
func ServeEcho(ln net.Listener) { http.Serve(ln, echoHandler()) }

func echoHandler() http.Handler {
	upgrader := websocket.Upgrader{ReadBufferSize: 64 << 10, WriteBufferSize: 64 << 10, EnableCompression: true}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		EchoMessages(conn)
	})
}

// EchoMessages is the loop that gorilla's documentation shows.
func EchoMessages(conn *websocket.Conn) {
	defer conn.Close()
	for {
		kind, message, err := conn.ReadMessage()
		if err != nil || conn.WriteMessage(kind, message) != nil {
			return
		}
	}
}

// EchoWithGorilla accepts a socket and sends every message back.
func EchoWithGorilla(w http.ResponseWriter, r *http.Request) {
	upgrader := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	EchoMessages(conn)
}

// An Application echoes on the sockets that it accepts, and keeps the requests.
type Application struct {
	*httptest.Server
	mu       sync.Mutex // guards requests
	requests []*http.Request
}

// StartApplication serves an Application until the test ends.
func StartApplication(t *testing.T) *Application {
	t.Helper()
	a := new(Application)
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	return a
}

func (a *Application) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.Note(r)
	if websocket.IsWebSocketUpgrade(r) {
		EchoWithGorilla(w, r)
		return
	}
	fmt.Fprint(w, "no socket")
}

// Note keeps a request that somebody else answers.
func (a *Application) Note(r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests = append(a.requests, r)
}

// Received are the requests so far.
func (a *Application) Received() []*http.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.requests)
}

func (a *Application) Address() string { return a.Listener.Addr().String() }

// UpgradingUpstream is the address of an application that accepts whatever asks
// for an upgrade, and shows it to see, if that is not nil.
func UpgradingUpstream(t *testing.T, see func(*http.Request)) string {
	t.Helper()
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			return
		}
		if see != nil {
			see(r)
		}
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		conn, err := hijackAfter101(w)
		if err != nil {
			t.Error(err)
			return
		}
		conn.Close()
	}))
	t.Cleanup(upstream.Close)
	return upstream.Listener.Addr().String()
}

func hijackAfter101(w http.ResponseWriter) (io.Closer, error) {
	w.WriteHeader(http.StatusSwitchingProtocols)
	conn, _, err := http.NewResponseController(w).Hijack()
	return conn, err
}
