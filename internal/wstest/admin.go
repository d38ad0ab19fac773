package wstest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
)

// Call calls the admin API.
func (p *Process) Call(method, path string, body []byte) (status int, answer string, err error) {
	return p.call(method, path, "application/json", body)
}

// adapt has the admin API adapt a Caddyfile.
func (p *Process) adapt(caddyfile []byte) (answer []byte, err error) {
	status, text, err := p.call(http.MethodPost, "/adapt", "text/caddyfile", caddyfile)
	if err == nil && status != http.StatusOK {
		err = errors.New(text)
	}
	return []byte(text), err
}

func (p *Process) call(method, path, contentType string, body []byte) (status int, answer string, err error) {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return net.Dial("unix", p.AdminSocket)
		},
	}}
	req, err := http.NewRequest(method, "http://caddy"+path, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", contentType)
	res, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	message, err := io.ReadAll(res.Body)
	return res.StatusCode, string(message), err
}

// Get asks the admin API for something that must be there.
func (p *Process) Get(t testing.TB, path string) string {
	t.Helper()
	status, answer, err := p.Call(http.MethodGet, path, nil)
	if err != nil || status != http.StatusOK {
		t.Fatalf("%s: status %d, %v", path, status, err)
	}
	return answer
}

// Post calls the admin API for something that must work.
func (p *Process) Post(path string, body []byte) error {
	status, answer, err := p.Call(http.MethodPost, path, body)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s: status %d: %s", path, status, answer)
	}
	return err
}

// CloseSessions closes the sessions of this process that match the query, as the
// admin API does.
func CloseSessions(t testing.TB, query string) {
	t.Helper()
	if status, answer := callSessions(t, http.MethodDelete, query); status != http.StatusOK {
		t.Fatalf("%s: status %d: %s", query, status, answer)
	}
}

// CloseAll closes all open sessions of this process with code 4000.
func CloseAll(t testing.TB) {
	t.Helper()
	for _, mode := range []string{"echo", "passthrough"} {
		CloseSessions(t, "?mode="+mode+"&code=4000&reason=logged+out")
	}
}

// Sessions are the open ones of this process, as the admin API lists them.
func Sessions(t testing.TB, query string) []map[string]any {
	t.Helper()
	status, answer := callSessions(t, http.MethodGet, query)
	if status != http.StatusOK {
		t.Fatalf("%s: status %d: %s", query, status, answer)
	}
	var list []map[string]any
	if err := json.Unmarshal([]byte(answer), &list); err != nil {
		t.Fatalf("%s: %v in %s", query, err, answer)
	}
	return list
}

// callSessions calls the handler that Caddy would mount in its admin API.
func callSessions(t testing.TB, method, query string) (status int, answer string) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, "/websocket/sessions"+query, nil)
	if err := inProcess(t).ServeAdmin(w, r); err != nil {
		t.Fatal(err)
	}
	return w.Code, w.Body.String()
}

// Sessions asks the admin API for sessions.
func (p *Process) Sessions(t *testing.T, query string) []map[string]any {
	t.Helper()
	status, answer, err := p.Call(http.MethodGet, "/websocket/sessions"+query, nil)
	if err != nil || status != http.StatusOK {
		t.Fatalf("%s: status %d, %v: %s", query, status, err, answer)
	}
	var list []map[string]any
	if err := json.Unmarshal([]byte(answer), &list); err != nil || list == nil {
		t.Fatalf("%s: %v in %s", query, err, answer)
	}
	return list
}

// MemStats are those of the process after a collection.
func (p *Process) MemStats(t testing.TB) runtime.MemStats {
	t.Helper()
	p.Get(t, "/debug/pprof/heap?gc=1")
	var vars struct{ Memstats runtime.MemStats }
	if err := json.Unmarshal([]byte(p.Get(t, "/debug/vars")), &vars); err != nil {
		t.Fatal(err)
	}
	return vars.Memstats
}

// CloseSessions closes sessions and makes sure that it was so many.
func (p *Process) CloseSessions(t *testing.T, what string, want int) {
	t.Helper()
	status, answer, err := p.Call(http.MethodDelete, "/websocket/sessions"+what, nil)
	var got struct{ Closing int }
	if err == nil {
		err = json.Unmarshal([]byte(answer), &got)
	}
	if err != nil || status != http.StatusOK || got.Closing != want {
		t.Fatalf("%s: status %d, %v: %s, want %d closing", what, status, err, answer, want)
	}
}
