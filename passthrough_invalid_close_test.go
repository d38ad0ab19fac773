package caddywebsocket

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
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
func checkInvalidClose(t *testing.T, socket map[string]any, by cause, i int) {
	t.Helper()
	c := invalidCloses[i]
	failure, _ := socket["error"].(string)
	reason, _ := socket["close_reason"].(string)
	wantReason := ""
	if len(c.payload) > 2 {
		wantReason = strings.ToValidUTF8(c.payload[2:], "\ufffd")
	}
	if socket["closed_by"] != string(by) || socket["close_code"] != float64(c.code) || reason != wantReason ||
		failure != "invalid Close frame: "+c.rule {
		t.Errorf("payload %q from the %s: got %v", c.payload, by, socket)
	}
}

// A Close frame that breaks a rule passes, and is reported as it was sent.
func TestTunnelInvalidClose(t *testing.T) {
	onEveryTunnel(t, "", func(t *testing.T, s *server, u *upstream, protocol string) {
		for i, c := range invalidCloses {
			client, app := u.tunnel(s, protocol)
			closed := len(s.logs.entries("socket closed"))
			app.write(serverFrame(ws.FinBit|byte(ws.OpClose), c.payload))
			client.expect(ws.OpClose, c.payload)
			client.answerClose(1002)
			app.rw.Close()
			client.rw.Close()
			entries := s.logs.await(t, "socket closed", closed+1)
			checkInvalidClose(t, entries[closed], byUpstream, i)

			client, app = u.tunnel(s, protocol)
			client.send(ws.OpClose, c.payload)
			app.expectMasked(ws.OpClose, c.payload)
			app.rw.Close() // without an answer
			client.expectClose(1002, "")
			client.expectEnd()
			client.rw.Close()
			entries = s.logs.await(t, "socket closed", closed+2)
			checkInvalidClose(t, entries[closed+1], byClient, i)
		}
	})
}

// In echo, the answer is a protocol error.
func TestEchoInvalidClose(t *testing.T) {
	s := start(t, "websocket\nrespond /no-socket 204")
	for _, protocol := range protocols {
		for i, c := range invalidCloses {
			code := 1002
			if c.code == 1000 {
				code = 1007
			}
			client := s.dial(t, protocol, "/")
			closed := len(s.logs.entries("socket closed"))
			client.send(ws.OpClose, c.payload)
			client.expectClose(code, c.rule)
			client.rw.Close()
			socket := s.logs.await(t, "socket closed", closed+1)[closed]
			if got := fmt.Sprint(socket["closed_by"], " ", socket["close_code"], " ", socket["close_reason"]); got != fmt.Sprintf("server %d %s", code, c.rule) {
				t.Errorf("%s, payload %d: %s", protocol, i, got)
			}
		}
	}
}
