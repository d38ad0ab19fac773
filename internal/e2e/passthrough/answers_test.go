package passthrough

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// answers are those of an application to whatever comes, by path.
var answers = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	w.Header()["Date"] = nil
	switch r.URL.Path {
	case "/no-socket":
	case "/unauthorized":
		w.Header().Set("WWW-Authenticate", `Basic realm="app"`)
		http.Error(w, "who are you?", http.StatusUnauthorized)
	case "/redirect":
		http.Redirect(w, r, "/login?from="+r.URL.Path, http.StatusFound)
	case "/empty":
		w.WriteHeader(http.StatusNoContent)
	case "/not-modified":
		w.Header().Set("Etag", `"1"`)
		w.WriteHeader(http.StatusNotModified)
	case "/broken":
		w.Header().Set("Retry-After", "7")
		http.Error(w, "out of order", http.StatusServiceUnavailable)
	case "/page":
		w.Header().Add("Set-Cookie", "a=1")
		w.Header().Add("Set-Cookie", "b=2")
		fmt.Fprint(w, "a page, to "+r.Method)
	case "/stream":
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Trailer", "X-Trailer")
		for i := range 100 {
			fmt.Fprintf(w, "data: %d %s\n\n", i, wstest.Letters(1000))
			http.NewResponseController(w).Flush()
		}
		w.Header().Set("X-Trailer", "last")
	default:
		http.NotFound(w, r)
	}
})

// What is no handshake, and what is no socket in answer to one, passes as it does
// without the directive.
func TestPassthroughLeavesAlone(t *testing.T) {
	app := httptest.NewServer(answers)
	t.Cleanup(app.Close)
	paths := []string{"/unauthorized", "/redirect", "/empty", "/not-modified", "/broken", "/page", "/stream", "/none"}
	seen := make(map[string]string)
	for _, directive := range []string{"", "websocket passthrough {\nallowed_origins self\n}\n"} {
		s := wstest.Start(t, directive+"reverse_proxy "+app.Listener.Addr().String())
		for _, protocol := range wstest.Protocols {
			same := func(what string, res *http.Response, body string) {
				t.Helper()
				for _, name := range []string{"Date", "Alt-Svc", "Via"} {
					res.Header.Del(name)
				}
				if protocol == "http3" && res.Header.Get("Content-Length") == "0" {
					res.Header.Del("Content-Length") // there or not, as it happens
				}
				answer := fmt.Sprintf("%d %v %v %s", res.StatusCode, res.Header, res.Trailer, body)
				what = protocol + " " + what
				if before, ok := seen[what]; ok && before != answer {
					t.Errorf("%s:\n%.500s\nwithout websocket:\n%.500s", what, answer, before)
				}
				seen[what] = answer
			}
			for _, path := range paths {
				for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodDelete} {
					res, body := s.Fetch(t, protocol, method, path)
					same(method+" "+path, res, body)
				}
				if path == "/stream" {
					continue // on HTTP/2 and HTTP/3 that is an accepted socket
				}
				p := s.TryDial(t, protocol, path)
				body := ""
				if p.Response.StatusCode != http.StatusNoContent && p.Response.StatusCode != http.StatusNotModified {
					body = p.Body()
				}
				same("handshake at "+path, p.Response, body)
			}
		}
	}
	if answer := seen["http2 GET /stream"]; !strings.Contains(answer, "data: 99 ") {
		t.Errorf("the stream ends with %.100s", answer)
	}
}

// A handshake that is refused never reaches the application, and a site without
// allowed_origins is warned of.
func TestPassthroughRefusals(t *testing.T) {
	app := wstest.StartApplication(t)
	proxy := "respond /no-socket 204\nreverse_proxy " + app.Address()
	s := wstest.Start(t, "websocket passthrough {\nallowed_origins self\nrequire_origin\n}\n"+proxy)
	for _, protocol := range wstest.Protocols {
		for _, c := range []struct {
			status int
			header []string
		}{
			{http.StatusForbidden, []string{"Origin", "https://elsewhere.example"}},
			{http.StatusForbidden, nil},
			{http.StatusBadRequest, []string{"Sec-WebSocket-Version", "13", "Sec-WebSocket-Version", "8"}},
			{http.StatusBadRequest, []string{"Sec-WebSocket-Key", "YQ==", "Sec-WebSocket-Key", "Yg=="}},
		} {
			if p := s.TryDial(t, protocol, "/", c.header...); p.Response.StatusCode != c.status {
				t.Errorf("%s with %v: status %d, want %d", protocol, c.header, p.Response.StatusCode, c.status)
			}
		}
	}
	if n := len(app.Received()); n > 0 {
		t.Errorf("%d refused handshakes reached the application", n)
	}
	const warning = "pages of any origin may open sockets"
	if strings.Contains(s.Logs.String(), warning) {
		t.Error("allowed_origins is there, and still there is a warning")
	}
	s.Reload(t, "", "websocket passthrough\n"+proxy)
	if n := strings.Count(s.Logs.String(), warning); n == 0 {
		t.Error("no warning without allowed_origins")
	}
}
