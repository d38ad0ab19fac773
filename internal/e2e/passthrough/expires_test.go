package passthrough

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// A socket ends with the token that its handshake had.
func TestExpiresWithToken(t *testing.T) { //nolint:tparallel // other tests run meanwhile
	t.Parallel()
	s := &wstest.StartBeside(t, "", `
		log
		bearer /echo
		bearer /app
		websocket /echo {
			expires {http.auth.user.expires}
		}
		websocket /app passthrough {
			allowed_origins *
			expires {http.auth.user.expires} 4401
		}
		respond /no-socket 204
		reverse_proxy `+wstest.EchoUpstream(t)).Server
	wstest.SideBySide(t, func(t *testing.T, protocol string) {
		expires := time.Now().Add(5 * time.Second).Truncate(time.Second)
		login := []string{"Authorization", bearerToken(t, "ada", expires)}
		echo := s.Dial(t, protocol, "/echo", login...)
		app := s.Dial(t, protocol, "/app", login...)
		forever := s.Dial(t, protocol, "/app", "Authorization", bearerToken(t, "ada", expires.Add(time.Hour)))
		echo.Echo(ws.OpText, "hello")
		app.Echo(ws.OpText, "hello")
		echo.ExpectClose(1008, "session expired")
		app.ExpectClose(4401, "session expired")
		if left := time.Until(expires); left > 0 {
			t.Errorf("the sockets are closed %s before the token expires", left)
		}
		for _, p := range []*wstest.Peer{echo, app} {
			p.AnswerClose(1008)
			p.ExpectEnd()
		}
		for _, path := range []string{"/echo", "/app"} {
			if p := s.TryDial(t, protocol, path, login...); p.Response.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s: status %d with the old token, want 401", path, p.Response.StatusCode)
			}
			if p := s.TryDial(t, protocol, path, "Authorization", bearerToken(t, "ada", time.Time{})); p.Response.StatusCode != http.StatusForbidden {
				t.Errorf("%s: status %d with a token that never expires, want 403", path, p.Response.StatusCode)
			}
		}
		forever.Echo(ws.OpText, "still here")
		forever.SendClose(1000, "bye")
		forever.ExpectClose(1000, "") // gorilla leaves the reason out
		forever.ExpectEnd()
	})
	expectAccess(t, s, "closed_by", "expired", 2*len(wstest.Protocols))
}

// expectAccess makes sure that so many sockets in the access log have a field with a value.
func expectAccess(t *testing.T, s *wstest.Server, field string, want any, n int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		got := 0
		for _, e := range s.Logs.Entries("handled request") {
			socket, _ := e["websocket"].(map[string]any)
			if socket != nil && socket[field] == want {
				got++
				if at, _ := socket["expires_at"].(string); !strings.HasSuffix(at, "Z") {
					t.Errorf("expires_at is %q", at)
				}
			}
		}
		if got == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d sockets have %s %v, want %d", got, field, want, n)
		}
	}
}

// A login that ends at a time that nobody can read, or has ended, is none.
func TestExpiresRefuses(t *testing.T) {
	s := wstest.Start(t, `
		websocket /echo {
			expires {header.X-Expires}
		}
		websocket /app passthrough {
			allowed_origins *
			expires {header.X-Expires}
		}
		respond "no socket"`)
	refusals := 0
	for value, reason := range map[string]string{
		"":                     "it is empty",
		"soon-and-secret":      "it can't be read: it must be Unix seconds, an RFC 3339 or HTTP date, or a duration from now",
		"1767323045":           "it has passed",
		"2026-01-02T03:04:05Z": "it has passed",
		"0s":                   "it has passed",
	} {
		for _, protocol := range wstest.Protocols {
			for _, path := range []string{"/echo", "/app"} {
				p := s.TryDial(t, protocol, path, "X-Expires", value)
				if p.Response.StatusCode != http.StatusForbidden {
					t.Errorf("%s: %s: %q: status %d, want 403", protocol, path, value, p.Response.StatusCode)
				}
				refusals++
				entries := s.Logs.Await(t, "refusing handshake", refusals)
				e := entries[refusals-1]
				if len(entries) != refusals || e["expires"] != "{http.request.header.X-Expires}" || e["reason"] != reason || e["level"] != "info" {
					t.Errorf("%s: %s: %q is logged as %v, want %q", protocol, path, value, e, reason)
				}
			}
		}
	}
	if strings.Contains(strings.ReplaceAll(s.Logs.String(), `"X-Expires":["soon-and-secret"]`, ""), "soon-and-secret") { // Caddy itself logs the header
		t.Error("the value is logged")
	}
}

// startForwardAuth starts an authentication service that answers with the given header, and
// Caddy with an echo behind it.
func startForwardAuth(t *testing.T, header func(r *http.Request) string) *wstest.Server {
	t.Helper()
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if value := header(r); value != "" {
			w.Header().Set("X-Expires", value)
		}
	}))
	t.Cleanup(service.Close)
	return wstest.Start(t, `
		forward_auth /ws `+service.Listener.Addr().String()+` {
			uri /verify
			copy_headers X-Expires
			header_up -Connection
			header_up -Upgrade
			header_up -Sec-WebSocket-*
		}
		websocket /ws {
			expires {header.X-Expires}
		}
		respond "no socket"`)
}

// The service's header counts, whatever the client sends.
func TestExpiresWithForwardAuth(t *testing.T) {
	s := startForwardAuth(t, func(r *http.Request) string { return r.URL.Query().Get("expires") + r.Header.Get("X-Lifetime") })
	wstest.SideBySide(t, func(t *testing.T, protocol string) {
		p := s.Dial(t, protocol, "/ws", "X-Lifetime", "300ms", "X-Expires", "1h")
		p.Echo(ws.OpText, "hello")
		p.ExpectClose(1008, "session expired")
		p.AnswerClose(1008)
		p.ExpectEnd()
		if p := s.TryDial(t, protocol, "/ws", "X-Expires", "1h"); p.Response.StatusCode != http.StatusForbidden {
			t.Errorf("status %d although the service doesn't know of a login, want 403", p.Response.StatusCode)
		}
	})
}

// An application renews or ends a login through the admin API.
func TestPatchExpires(t *testing.T) {
	t.Parallel()
	p := wstest.StartProcess(t, "", "websocket {\nexpires {header.X-Expires}\n}")
	patch := func(id, query string, want int) string {
		t.Helper()
		status, answer, err := p.Call(http.MethodPatch, "/websocket/sessions/"+id+query, nil)
		if err != nil || status != want {
			t.Errorf("%s: status %d, %v: %s, want %d", query, status, err, answer, want)
		}
		return answer
	}
	for _, protocol := range wstest.Protocols {
		expires := time.Now().Add(time.Hour).Truncate(time.Second).UTC()
		client := p.Dial(t, protocol, "/", "X-Expires", fmt.Sprint(expires.Unix()))
		client.Echo(ws.OpText, "hello")
		session := p.Sessions(t, "")[0]
		id := session["id"].(string)
		if got := session["expires_at"]; got != expires.Format(time.RFC3339) {
			t.Errorf("%s: expires_at is %v, want %s", protocol, got, expires)
		}
		for query, want := range map[string]int{
			"?expires_at=" + expires.Format(time.RFC3339): 1, "?expires_at=none": 0, "?expires_before=2h": 1, "?expires_before=30m": 0,
			"?expires_after=30m": 1, "?expires_after=2h": 0,
		} {
			if got := p.Sessions(t, query); len(got) != want {
				t.Errorf("%s: %s: %d sessions, want %d", protocol, query, len(got), want)
			}
		}
		later := expires.Add(time.Hour)
		if answer := patch(id, "?expires="+later.Format(time.RFC3339), 200); !strings.Contains(answer, later.Format(time.RFC3339)) {
			t.Errorf("%s: extended to %s: %s", protocol, later, answer)
		}
		patch(id, "?expires=none", 200)
		if got := p.Sessions(t, "?expires_at=none"); len(got) != 1 || got[0]["expires_at"] != "" {
			t.Errorf("%s: lifted: %v", protocol, got)
		}
		for query, reason := range map[string]string{
			"?expires=soon": "expires 'soon': it must be none, or Unix seconds", "?expires=": "parameter 'expires': it must not be empty",
			"": "expires '': it must be none, or", "?expire=1h": "parameter 'expire': it must be one of expires",
		} {
			if answer := patch(id, query, 400); !strings.Contains(answer, reason) {
				t.Errorf("%s: %s: %s, want %s", protocol, query, answer, reason)
			}
		}
		patch("unknown", "?expires=1h", 404)
		patch(id, "?expires=10ms", 200)
		client.ExpectClose(1008, "session expired")
		patch(id, "?expires=1h", 409)
		client.AnswerClose(1008)
		client.ExpectEnd()
		client.Conn.Close()
		for len(p.Sessions(t, "")) > 0 {
			time.Sleep(time.Millisecond)
		}
	}
}
