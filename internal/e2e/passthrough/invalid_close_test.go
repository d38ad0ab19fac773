package passthrough

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// invalidCloses are payloads of Close frames that break a rule.
var invalidCloses = []struct {
	payload string
	code    int
	rule    string
}{
	{"\x00\x00", 0, "close code 0"},
	{"\x03\xe7", 999, "close code 999"},
	{"\x03\xecreserved", 1004, "close code 1004"},
	{"\x03\xed", 1005, "close code 1005"},
	{"\x03\xeegone", 1006, "close code 1006"},
	{"\x03\xf7", 1015, "close code 1015"},
	{"\x13\x88", 5000, "close code 5000"},
	{"\x03", 1005, "close frame with half a code"},
	{"\x03\xe8\xff", 1000, "text that is not UTF-8"},
}

// checkInvalidClose makes sure that the last session is reported to have ended with
// such a frame.
func checkInvalidClose(t *testing.T, socket map[string]any, by string, i int) {
	t.Helper()
	c := invalidCloses[i]
	failure, _ := socket["error"].(string)
	reason, _ := socket["close_reason"].(string)
	wantReason := ""
	if len(c.payload) > 2 {
		wantReason = strings.ToValidUTF8(c.payload[2:], "\ufffd")
	}
	if socket["closed_by"] != by || socket["close_code"] != float64(c.code) || reason != wantReason ||
		failure != "invalid Close frame: "+c.rule {
		t.Errorf("payload %q from the %s: got %v", c.payload, by, socket)
	}
}

// A Close frame that breaks a rule passes, and is reported as it was sent.
func TestTunnelInvalidClose(t *testing.T) {
	wstest.OnEveryTunnel(t, "", func(t *testing.T, s *wstest.Server, u *wstest.Upstream, protocol string) {
		for i, c := range invalidCloses {
			client, app := u.Tunnel(s, protocol)
			closed := len(s.Logs.Entries("socket closed"))
			app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpClose), c.payload))
			client.Expect(ws.OpClose, c.payload)
			client.AnswerClose(1002)
			app.Conn.Close()
			client.Conn.Close()
			entries := s.Logs.Await(t, "socket closed", closed+1)
			checkInvalidClose(t, entries[closed], "upstream", i)

			client, app = u.Tunnel(s, protocol)
			client.Send(ws.OpClose, c.payload)
			app.ExpectMasked(ws.OpClose, c.payload)
			app.Conn.Close() // without an answer
			client.ExpectClose(1002, "")
			client.ExpectEnd()
			client.Conn.Close()
			entries = s.Logs.Await(t, "socket closed", closed+2)
			checkInvalidClose(t, entries[closed+1], "client", i)
		}
	})
}

// In echo, the answer is a protocol error.
func TestEchoInvalidClose(t *testing.T) {
	s := wstest.Start(t, "websocket\nrespond /no-socket 204")
	for _, protocol := range wstest.Protocols {
		for i, c := range invalidCloses {
			code := 1002
			if c.code == 1000 {
				code = 1007
			}
			client := s.Dial(t, protocol, "/")
			closed := len(s.Logs.Entries("socket closed"))
			client.Send(ws.OpClose, c.payload)
			client.ExpectClose(code, c.rule)
			client.Conn.Close()
			socket := s.Logs.Await(t, "socket closed", closed+1)[closed]
			if got := fmt.Sprint(socket["closed_by"], " ", socket["close_code"], " ", socket["close_reason"]); got != fmt.Sprintf("server %d %s", code, c.rule) {
				t.Errorf("%s, payload %d: %s", protocol, i, got)
			}
		}
	}
}
