package caddywebsocket

import "testing"

// A client gets its Close frame also if the connection to the application is lost before
// any frame has passed.
func TestTunnelUpstreamBreaksBeforeAnyFrame(t *testing.T) {
	onEveryTunnel(t, "", func(t *testing.T, s *server, u *upstream, protocol string) {
		closed := len(s.logs.entries("socket closed"))
		client, app := u.tunnel(s, protocol)
		app.rw.Close()
		client.expectClose(1012, "")
		client.answerClose(1012)
		client.expectEnd()
		client.rw.Close()
		socket := s.logs.await(t, "socket closed", closed+1)[closed]
		if socket["closed_by"] != string(byUpstream) || socket["close_code"] != 1012.0 {
			t.Errorf("closed by %v with %v, want %s with 1012", socket["closed_by"], socket["close_code"], byUpstream)
		}
	})
}
