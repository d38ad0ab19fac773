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

// reportedInvalidClose is what the log says of a session that ended with such a frame.
func reportedInvalidClose(by, payload string, code int, rule string) string {
	reason := ""
	if len(payload) > 2 {
		reason = strings.ToValidUTF8(payload[2:], "\ufffd")
	}
	return fmt.Sprintf("%s %d %q invalid Close frame: %s", by, code, reason, rule)
}

// A Close frame that breaks a rule passes, and is reported as it was sent.
func TestTunnelInvalidClose(t *testing.T) {
	s := wstest.OnEveryTunnel(t, "", func(t *testing.T, s *wstest.Server, u *wstest.Upstream, protocol string) {
		for _, c := range invalidCloses {
			client, app := u.Tunnel(s, protocol)
			app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpClose), c.payload))
			client.Expect(ws.OpClose, c.payload)
			client.AnswerClose(1002)
			app.Conn.Close()
			client.Conn.Close()

			client, app = u.Tunnel(s, protocol)
			client.Send(ws.OpClose, c.payload)
			app.ExpectMasked(ws.OpClose, c.payload)
			app.Conn.Close() // without an answer
			client.ExpectClose(1002, "")
			client.ExpectEnd()
			client.Conn.Close()
		}
	})
	reported := make(map[string]int)
	for _, e := range s.Logs.Await(t, "socket closed", 2*len(invalidCloses)*len(wstest.Protocols)) {
		reason, _ := e["close_reason"].(string)
		reported[fmt.Sprintf("%v %v %q %v", e["closed_by"], e["close_code"], reason, e["error"])]++
	}
	for _, c := range invalidCloses {
		for _, by := range []string{"upstream", "client"} {
			want := reportedInvalidClose(by, c.payload, c.code, c.rule)
			if n := reported[want]; n != len(wstest.Protocols) {
				t.Errorf("%d sessions were reported as %s, want %d: %v", n, want, len(wstest.Protocols), reported)
			}
		}
	}
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
