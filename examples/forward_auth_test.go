package examples

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// An authService lets the session "alice" in. It answers a handshake of its own as
// some servers do: it upgrades.
type authService struct {
	*wstest.Application
	conns sync.Map // open connections, each by its requests under way
}

func startAuthService(t *testing.T) *authService {
	t.Helper()
	a := &authService{Application: new(wstest.Application)}
	a.Server = httptest.NewUnstartedServer(a)
	a.Config.ConnState = func(c net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			a.conns.Delete(c)
		} else {
			a.conns.Store(c, state)
		}
	}
	a.Start()
	t.Cleanup(a.Close)
	return a
}

func (a *authService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if websocket.IsWebSocketUpgrade(r) {
		a.Application.ServeHTTP(w, r)
		return
	}
	a.Note(r)
	switch cookie := r.Header.Get("Cookie"); {
	case r.Header.Get("X-Forwarded-Uri") == "/redirect":
		http.Redirect(w, r, "/login", http.StatusFound)
	case cookie == "session=alice":
		w.Header().Set("X-User", "alice")
		fmt.Fprint(w, strings.Repeat("welcome ", 2000))
	default:
		http.Error(w, "who are you?", http.StatusUnauthorized)
	}
}

// connections is how many connections Caddy has to the service.
func (a *authService) connections() (n int) {
	a.conns.Range(func(any, any) bool { n++; return true })
	return n
}

// startForwardAuth starts the example without the given lines.
func startForwardAuth(t *testing.T, without ...string) (*wstest.Process, *wstest.Application, *authService) {
	t.Helper()
	app, auth := wstest.StartApplication(t), startAuthService(t)
	replacements := []string{
		"http://localhost:8080", "localhost:0",
		"localhost:9091", auth.Address(), "localhost:3000", app.Address(),
	}
	for _, line := range without {
		if line != "" {
			replacements = append(replacements, line, "")
		}
	}
	return startExample(t, "forward_auth", replacements...), app, auth
}

func TestExampleForwardAuth(t *testing.T) { //nolint:tparallel // other tests run meanwhile
	t.Parallel()
	p, app, auth := startForwardAuth(t)
	for _, protocol := range wstest.Protocols[1:] {
		t.Run(protocol, func(t *testing.T) {
			appBefore, authBefore := len(app.Received()), len(auth.Received())
			refused := p.TryDial(t, protocol, "/chat?room=1")
			if got := refused.Body(); refused.Response.StatusCode != http.StatusUnauthorized || got != "who are you?\n" {
				t.Errorf("without a session: %d %q, want 401 and the service's words", refused.Response.StatusCode, got)
			}
			refused = p.TryDial(t, protocol, "/redirect")
			if got := refused.Response.Header.Get("Location"); refused.Response.StatusCode != http.StatusFound || got != "/login" {
				t.Errorf("redirected: %d to %q, want 302 to /login", refused.Response.StatusCode, got)
			}
			if n := len(app.Received()) - appBefore; n > 0 {
				t.Errorf("the application saw %d handshakes that were refused", n)
			}
			client := p.Dial(t, protocol, "/chat?room=1", "Cookie", "session=alice", "X-User", "mallory")
			client.Echo(ws.OpText, "hello")
			if got := app.Received()[appBefore].Header["X-User"]; !slices.Equal(got, []string{"alice"}) {
				t.Errorf("the application was told the user %q, want alice", got)
			}
			questions := slices.DeleteFunc(auth.Received()[authBefore:], func(r *http.Request) bool {
				return r.Header.Get("X-Forwarded-Uri") == "/no-socket" // asks where HTTP/3 is
			})
			if len(questions) != 3 {
				t.Errorf("%d questions for 3 handshakes", len(questions))
			}
			for _, q := range questions {
				expectPlainQuestion(t, q)
			}
			client.SendClose(1000, "bye")
			client.ExpectClose(1000, "") // gorilla leaves the reason out
			client.ExpectEnd()
		})
	}
}

// expectPlainQuestion makes sure that the request doesn't ask for a socket.
func expectPlainQuestion(t *testing.T, r *http.Request) {
	t.Helper()
	if r.Method != http.MethodGet || r.URL.Path != "/verify" {
		t.Errorf("the service was asked %s %s, want GET /verify", r.Method, r.URL)
	}
	for name := range r.Header {
		if name == "Connection" || name == "Upgrade" || strings.HasPrefix(name, "Sec-Websocket-") {
			t.Errorf("the service was asked with %s: %s", name, r.Header.Get(name))
		}
	}
}

// Open sockets hold no connection to the service, as each would if its answer were
// not read at once.
func TestExampleForwardAuthConnections(t *testing.T) {
	t.Parallel()
	const sockets = 5
	for _, c := range []struct {
		without string
		want    int
	}{{"", 1}, {"response_buffers 64KiB", sockets}} {
		p, _, auth := startForwardAuth(t, c.without)
		for range sockets {
			p.Dial(t, "http2", "/", "Cookie", "session=alice").Echo(ws.OpText, "hello")
		}
		if n := auth.connections(); n != c.want {
			t.Errorf("without %q: %d connections to the service, want %d", c.without, n, c.want)
		}
	}
}

// If the question were asked with the fields of the handshake, a service that
// knows WebSockets would take it for one, and answer 101: on HTTP/1.1 the client
// would be its client, on HTTP/2 there would be no socket.
func TestExampleForwardAuthUpgraded(t *testing.T) {
	t.Parallel()
	p, app, auth := startForwardAuth(t, "header_up -Connection", "header_up -Upgrade", "header_up -Sec-WebSocket-*", "response_buffers 64KiB")
	for i, protocol := range wstest.Protocols[1:3] {
		client := p.TryDial(t, protocol, "/")
		if protocol == "tls" {
			client.Echo(ws.OpText, "hello")
		}
		if len(auth.upgraded()) != i+1 || len(app.Received()) > 0 {
			t.Errorf("%s: %d sockets of the service, %d of the application, want %d and none",
				protocol, len(auth.upgraded()), len(app.Received()), i+1)
		}
	}
}

func (a *authService) upgraded() []*http.Request {
	return slices.DeleteFunc(a.Received(), func(r *http.Request) bool { return !websocket.IsWebSocketUpgrade(r) })
}
