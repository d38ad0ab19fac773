package e2e

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// adminSite has an echo and an application that asks for a password.
const adminSite = `websocket /echo {
		subprotocols chat
	}
	basic_auth /app {
		alice $2a$04$9O37fXP12rbx.txU2F745.FMetWzUfUcZ6tLrnl/2FH99A7n0C/Xy
	}
	websocket /app passthrough {
		allowed_origins *
	}
	respond /no-socket 204
	reverse_proxy `

// startAdmin starts Caddy with a socket on each protocol and one of alice's.
func startAdmin(t *testing.T) (p *wstest.Process, echoes map[string]*wstest.Peer, client, app *wstest.Peer) {
	t.Helper()
	u := wstest.ListenUpstream(t)
	p = wstest.StartProcess(t, "", adminSite+u.Addr().String())
	if list := p.Sessions(t, ""); len(list) != 0 {
		t.Errorf("sessions before there are any: %v", list)
	}
	echoes = make(map[string]*wstest.Peer)
	for _, protocol := range wstest.Protocols {
		echoes[protocol] = p.Dial(t, protocol, "/echo", "Sec-WebSocket-Protocol", "chat")
		echoes[protocol].Echo(ws.OpText, "hello")
	}
	apps := make(chan *wstest.Peer)
	go func() { apps <- u.AcceptSocket() }()
	client = p.Dial(t, "http1", "/app", "Authorization", "Basic YWxpY2U6aGljY3Vw") // alice:hiccup
	app = <-apps
	client.Send(ws.OpText, "hello")
	app.ExpectMasked(ws.OpText, "hello")
	return p, echoes, client, app
}

func TestAdminAPI(t *testing.T) {
	p, _, client, _ := startAdmin(t)
	defer client.Conn.Close()
	list := p.Sessions(t, "")
	if len(list) != len(wstest.Protocols)+1 {
		t.Fatalf("%d sessions, want %d", len(list), len(wstest.Protocols)+1)
	}
	for i, proto := range []string{"HTTP/1.1", "HTTP/1.1", "HTTP/2.0", "HTTP/3.0"} {
		if list[i]["proto"] != proto || list[i]["messages_sent"] != 1.0 || list[i]["subprotocol"] != "chat" {
			t.Errorf("session %d: %v, want %s, one message, chat", i, list[i], proto)
		}
	}
	last := list[len(wstest.Protocols)]
	for name, want := range map[string]any{
		"mode": "passthrough", "host": "127.0.0.1", "path": "/app", "client_ip": "127.0.0.1", "user_id": "alice",
		"messages_received": 1.0, "bytes_received": 5.0, "messages_sent": 0.0, "closed_by": "", "compression": false,
	} {
		if last[name] != want {
			t.Errorf("%s is %v, want %v", name, last[name], want)
		}
	}
	if age, _ := last["age"].(float64); age <= 0 {
		t.Errorf("age is %v", last["age"])
	}

	for query, want := range map[string]int{
		"?mode=echo": 4, "?mode=passthrough": 1, "?host=127.0.0.1": 5, "?host=elsewhere": 0, "?client_ip=127.0.0.1": 5,
		"?subprotocol=chat": 4, "?subprotocol=": 1, "?path=/app": 1, "?user_id=alice": 1, "?user_id=bob": 0,
		"?mode=echo&limit=2": 2, "?limit=100": 5, "?mode=echo&path=/app": 0,
	} {
		if got := p.Sessions(t, query); len(got) != want {
			t.Errorf("%s: %d sessions, want %d", query, len(got), want)
		}
	}
	if oldest := p.Sessions(t, "?limit=1"); oldest[0]["id"] != list[0]["id"] {
		t.Errorf("the list begins with %v, want %v", oldest[0]["id"], list[0]["id"])
	}
	id := list[0]["id"].(string)
	if status, answer, _ := p.Call(http.MethodGet, "/websocket/sessions/"+id, nil); status != 200 || !strings.Contains(answer, id) {
		t.Errorf("one session: %d %s", status, answer)
	}
}

func TestAdminAPICloses(t *testing.T) {
	p, echoes, client, app := startAdmin(t)
	id := p.Sessions(t, "?limit=1")[0]["id"].(string)
	p.CloseSessions(t, "/"+id+"?code=4001&reason=logged+out", 1)
	echoes["http1"].ExpectClose(4001, "logged out")
	echoes["http1"].AnswerClose(4001)
	echoes["http1"].ExpectEnd()
	echoes["http1"].Conn.Close()
	for len(p.Sessions(t, "?mode=echo")) > len(wstest.Protocols)-1 {
		time.Sleep(time.Millisecond)
	}
	p.CloseSessions(t, "?user_id=alice", 1)
	client.ExpectClose(1008, "")
	app.ExpectMasked(ws.OpClose, string(ws.ClosePayload(1008, "")))
	app.Conn.Close()
	p.CloseSessions(t, "?mode=echo&reason="+url.QueryEscape(strings.Repeat("é", 61)), len(wstest.Protocols)-1)
	for _, protocol := range wstest.Protocols[1:] {
		echoes[protocol].ExpectClose(1008, strings.Repeat("é", 61))
		echoes[protocol].Conn.Close()
	}
}

func TestAdminAPIErrors(t *testing.T) {
	p := wstest.StartProcess(t, "", "websocket")
	p.Dial(t, "http1", "/").Echo(ws.OpText, "hello")
	for _, c := range []struct {
		request string
		status  int
		err     string
	}{
		{"POST ", 405, "method POST: it must be one of GET, DELETE"},
		{"PUT /x", 405, "method PUT: it must be one of GET, PATCH, DELETE"},
		{"GET /unknown", 404, "no open session has the id 'unknown'"},
		{"GET /", 404, "no open session has the id ''"},
		{"DELETE /unknown?code=1000", 404, "no open session has the id 'unknown'"},
		{"GET /unknown?limit=1", 400, "parameter 'limit': this request takes no parameters"},
		{"GET ?color=red", 400, "parameter 'color': it must be one of client_ip, expires_after, expires_at, expires_before, host, mode, path, server, subprotocol, upstream, user_id, limit"},
		{"GET ?host=a&host=b", 400, "parameter 'host': it is given more than once"},
		{"GET ?limit=0", 400, "limit '0': it must be a whole number of at least 1"},
		{"GET ?limit=many", 400, "limit 'many': it must be a whole number of at least 1"},
		{"GET ?%zz", 400, "parsing the query"},
		{"GET ?code=1000", 400, "parameter 'code': it must be one of"},
		{"DELETE ", 400, "closing sessions requires a filter, at least one of client_ip, expires_after, expires_at, expires_before, host, mode, path, server, subprotocol, upstream, user_id"},
		{"DELETE ?code=1000", 400, "closing sessions requires a filter"},
		{"DELETE ?mode=echo&code=1005", 400, "code '1005': it must be a code that a server may send"},
		{"DELETE ?mode=echo&code=1010", 400, "code '1010'"},
		{"DELETE ?mode=echo&code=x", 400, "code 'x'"},
		{"DELETE ?mode=echo&reason=" + strings.Repeat("x", 124), 400, "reason: it must be valid UTF-8 of at most 123 bytes"},
		{"DELETE ?mode=echo&reason=%ff", 400, "reason: it must be valid UTF-8"},
	} {
		method, path, _ := strings.Cut(c.request, " ")
		status, answer, err := p.Call(method, "/websocket/sessions"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		var body struct{ Error string }
		if err := json.Unmarshal([]byte(answer), &body); err != nil {
			t.Errorf("%s: %v in %s", c.request, err, answer)
		}
		if status != c.status || !strings.Contains(body.Error, c.err) {
			t.Errorf("%s: %d %s, want %d %s", c.request, status, body.Error, c.status, c.err)
		}
	}
	if list := p.Sessions(t, ""); len(list) != 1 || list[0]["closed_by"] != "" {
		t.Errorf("an error closed something: %v", list)
	}
}

// A variable that isn't set in a script selects nothing, rather than all.
func TestAdminAPIEmptyFilter(t *testing.T) {
	p := wstest.StartProcess(t, "", "websocket")
	p.Dial(t, "http1", "/").Echo(ws.OpText, "hello")
	for _, name := range []string{"client_ip", "host", "mode", "path", "subprotocol", "user_id"} {
		status, answer, err := p.Call(http.MethodDelete, "/websocket/sessions?"+name+"=", nil)
		if want := http.StatusBadRequest; err != nil || name != "subprotocol" && status != want {
			t.Errorf("%s: status %d, %v: %s, want %d", name, status, err, answer, want)
		}
	}
}
