package passthrough

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// An authService lets in those who have a login, by their cookie.
type authService struct {
	*httptest.Server
	mu       sync.Mutex // guards the following
	loggedIn map[string]bool
	status   int    // of all answers, if not 0
	expires  string // when logins end
	asked    []*http.Request
}

func startAuthService(t *testing.T) *authService {
	t.Helper()
	a := &authService{loggedIn: make(map[string]bool)}
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	return a
}

func (a *authService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, r)
	user, err := r.Cookie("user")
	switch {
	case r.Header.Get("X-Forwarded-Uri") == "/no-socket": // asks where HTTP/3 is
	case a.status != 0:
		w.WriteHeader(a.status)
	case err == nil && a.loggedIn[user.Value]:
		w.Header().Set("X-User", user.Value)
		w.Header().Set("X-Expires", a.expires)
	default:
		http.Redirect(w, r, "/login", http.StatusFound)
	}
}

func (a *authService) login(user string, in bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.loggedIn[user] = in
}

func (a *authService) expire(at string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expires = at
}

func (a *authService) answer(status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status = status
}

// requests returns what was asked for a user.
func (a *authService) requests(user string) (list []*http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.asked {
		if c, err := r.Cookie("user"); err == nil && c.Value == user {
			list = append(list, r)
		}
	}
	return list
}

// awaitRequests waits until something has been asked n times for a user.
func (a *authService) awaitRequests(t *testing.T, user string, n int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); len(a.requests(user)) < n; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the service was asked for %s %d times, want %d", user, len(a.requests(user)), n)
		}
	}
}

// recheckSite has both modes behind a forward_auth, and rechecks with the same one. Paths lose
// their first element.
func recheckSite(t *testing.T, a *authService) string {
	t.Helper()
	ask := fmt.Sprintf(`forward_auth %s {
			uri /verify
			copy_headers X-User
			header_up -Connection
			header_up -Upgrade
			header_up -Sec-WebSocket-*
		}`, a.Listener.Addr())
	return fmt.Sprintf(`
		log
		respond /no-socket 204
		handle_path /in/* {
			%s
			websocket /echo* {
				recheck 1s {
					%[1]s
				}
			}
			websocket /app* passthrough {
				allowed_origins *
				close_code recheck 4403
				recheck 1s {
					%[1]s
				}
			}
			reverse_proxy %s
		}`, ask, wstest.EchoUpstream(t))
}

// Sockets end when their user has logged out, also under a config that has been replaced.
func TestRecheckWithForwardAuth(t *testing.T) {
	t.Parallel()
	a := startAuthService(t)
	site := recheckSite(t, a)
	s := wstest.StartBeside(t, "", site)
	type socket struct{ ada, bob *wstest.Peer }
	open := make(map[string]socket)
	a.login("bob", true)
	for _, protocol := range wstest.Protocols {
		ada := "ada-" + protocol
		a.login(ada, true)
		for _, path := range []string{"/in/echo?room=1", "/in/app?room=1"} {
			sockets := socket{s.Dial(t, protocol, path, "Cookie", "user="+ada), s.Dial(t, protocol, path, "Cookie", "user=bob")}
			sockets.ada.Echo(ws.OpText, "hello")
			open[protocol+path] = sockets
		}
	}
	for i := range 3 {
		s.Reload(t, "", fmt.Sprintf("header X-Config %d\n%s", i, site))
	}
	for _, protocol := range wstest.Protocols {
		a.awaitRequests(t, "ada-"+protocol, len(a.requests("ada-"+protocol))+2)
		a.login("ada-"+protocol, false)
	}
	for name, sockets := range open {
		code := 1008
		if strings.Contains(name, "/app") {
			code = 4403
		}
		sockets.ada.ExpectClose(code, "no longer authorized")
		sockets.ada.AnswerClose(code)
		sockets.ada.ExpectEnd()
		sockets.ada.Conn.Close()
		sockets.bob.Echo(ws.OpText, "still here")
		sockets.bob.Conn.Close()
	}
	for _, protocol := range wstest.Protocols {
		for _, r := range a.requests("ada-" + protocol) {
			expectPlainQuestion(t, protocol, r)
		}
	}
	for n, rechecked := 1, 0; rechecked < 2*len(wstest.Protocols); n++ {
		rechecked = 0
		for _, e := range s.Logs.Await(t, "handled request", n) {
			if socket, _ := e["websocket"].(map[string]any); socket != nil && socket["closed_by"] == "recheck" {
				rechecked++
			}
		}
	}
}

// expectPlainQuestion makes sure that the service can't tell a recheck from the request of a
// page.
func expectPlainQuestion(t *testing.T, protocol string, r *http.Request) {
	t.Helper()
	if uri := r.Header.Get("X-Forwarded-Uri"); r.Method != http.MethodGet || r.Header.Get("X-Forwarded-Method") == "" ||
		!strings.HasSuffix(uri, "/echo?room=1") && !strings.HasSuffix(uri, "/app?room=1") {
		t.Errorf("%s: %s of %s", protocol, r.Method, uri)
	}
	wantProto := "https"
	if protocol == "http1" {
		wantProto = "http"
	}
	if r.Header.Get("X-Forwarded-Proto") != wantProto || r.Header.Get("X-Forwarded-For") != "127.0.0.1" {
		t.Errorf("%s: forwarded for %s by %s", protocol, r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Forwarded-Proto"))
	}
	for name := range r.Header {
		if name == "Connection" || name == "Upgrade" || strings.HasPrefix(name, "Sec-Websocket-") {
			t.Errorf("%s: asked with %s", protocol, name)
		}
	}
}

// While the service is in trouble, sockets stay open. That is logged once.
func TestRecheckFails(t *testing.T) {
	t.Parallel()
	a := startAuthService(t)
	a.login("ada", true)
	s := &wstest.StartBeside(t, "", recheckSite(t, a)+"\nmetrics /metrics").Server
	var open []*wstest.Peer
	for _, protocol := range wstest.Protocols {
		for _, path := range []string{"/in/echo", "/in/app"} {
			open = append(open, s.Dial(t, protocol, path, "Cookie", "user=ada"))
		}
	}
	a.answer(http.StatusServiceUnavailable)
	a.awaitRequests(t, "ada", len(a.requests("ada"))+2*len(open))
	a.Close() // from now on it can't be reached
	time.Sleep(1500 * time.Millisecond)
	for _, p := range open {
		p.Echo(ws.OpText, "still here")
		p.Conn.Close()
	}
	entries := s.Logs.Entries("recheck failed; sockets stay open until one succeeds")
	if len(entries) != 4 { // two handlers on each of two servers
		t.Errorf("failures of 4 handlers are logged %d times", len(entries))
	}
	_, metrics := s.Fetch(t, "http1", http.MethodGet, "/metrics")
	for _, result := range []string{"allowed", "denied", "failed"} {
		for _, mode := range []string{"echo", "passthrough"} {
			if !strings.Contains(metrics, fmt.Sprintf(`caddy_websocket_rechecks_total{mode="%s",result="%s",server="secure"`, mode, result)) {
				t.Errorf("no metric of rechecks %s in %s", result, mode)
			}
		}
	}
}

// What the route does with the request has no effect on the socket: it is still that of its
// user, in the access log and in the admin API.
func TestRecheckLeaksNothing(t *testing.T) {
	t.Parallel()
	p := wstest.StartProcess(t, "", `
		log
		log_append who {http.auth.user.id}
		log_append seen {vars.seen}
		basic_auth {
			alice $2a$04$9O37fXP12rbx.txU2F745.FMetWzUfUcZ6tLrnl/2FH99A7n0C/Xy
		}
		websocket {
			recheck 1s {
				route {
					request_header Authorization "Basic Ym9iOmhpY2N1cA=="
					vars seen yes
					log_append recheck yes
					basic_auth {
						bob $2a$04$9O37fXP12rbx.txU2F745.FMetWzUfUcZ6tLrnl/2FH99A7n0C/Xy
					}
				}
			}
		}`)
	open := make(map[string]*wstest.Peer)
	for _, protocol := range wstest.Protocols {
		open[protocol] = p.Dial(t, protocol, "/"+protocol, "Authorization", "Basic YWxpY2U6aGljY3Vw")
		open[protocol].Echo(ws.OpText, "hello")
	}
	awaitRechecks(t, p, len(open))
	if got := p.Sessions(t, "?user_id=alice"); len(got) != len(open) {
		t.Errorf("%d sessions of alice, want %d", len(got), len(open))
	}
	for protocol, client := range open {
		client.Echo(ws.OpText, "still here")
		client.CloseNormally()
		client.Conn.Close()
		e := awaitSocket(t, &p.Server, protocol)
		if e["who"] != "alice" || e["seen"] != nil && e["seen"] != "" || e["recheck"] != nil {
			t.Errorf("%s: logged as %v, %v, %v", protocol, e["who"], e["seen"], e["recheck"])
		}
	}
}

// awaitRechecks waits until n rechecks have been successful.
func awaitRechecks(t *testing.T, p *wstest.Process, n int) {
	t.Helper()
	allowed := regexp.MustCompile(`(?m)^caddy_websocket_rechecks_total{.*result="allowed".*} (\d+)$`)
	for deadline := time.Now().Add(wstest.Timeout); ; time.Sleep(10 * time.Millisecond) {
		sum := 0
		for _, m := range allowed.FindAllStringSubmatch(p.Get(t, "/metrics"), -1) {
			count, _ := strconv.Atoi(m[1])
			sum += count
		}
		if sum >= n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d rechecks were successful, want %d", sum, n)
		}
	}
}

// awaitSocket waits until the socket with a path is in the access log.
func awaitSocket(t *testing.T, s *wstest.Server, path string) map[string]any {
	t.Helper()
	for n := 1; ; n++ {
		for _, e := range s.Logs.Await(t, "handled request", n) {
			if e["websocket"] != nil && e["request"].(map[string]any)["uri"] == "/"+path {
				return e
			}
		}
	}
}
