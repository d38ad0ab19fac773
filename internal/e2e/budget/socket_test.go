//go:build linux && amd64 && !race

package budget

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// site echoes at /echo and has an upstream that is supervised elsewhere.
func site(u *wstest.Upstream, options string) string {
	return "websocket /echo {\n" + options + "\n}\n" +
		"websocket passthrough {\nallowed_origins *\n" + options + "\n}\n" +
		"respond /no-socket 204\nreverse_proxy " + u.Addr().String()
}

// serve runs Caddy in a process of its own, in which nothing depends on the machine: neither on
// how many processors there are nor on when garbage is collected, nor the size of a new stack on
// what others have used.
func serve(t *testing.T, p *wstest.Process, site string) *wstest.Process {
	t.Helper()
	p.Cmd.Env = append(p.Cmd.Env, "GOMAXPROCS=2", "GOGC=off", "GODEBUG=adaptivestackstart=0", "GOTRACEBACK=system")
	return p.Serve(t, "INFO", "", site)
}

// A socket is one whose ends the test has both.
type socket struct {
	client, app *wstest.Peer // app is nil in an echo
	sent, reply []byte
	got         []byte // as long as what is sent
}

// open opens a socket that is to carry so many messages at once.
func open(t *testing.T, s *wstest.Server, u *wstest.Upstream, mode, protocol string, together int) *socket {
	t.Helper()
	const message = "a message of thirty-two letters." // 16 of them fit in a QUIC packet
	c := &socket{
		sent:  bytes.Repeat(wstest.ClientFrame(ws.FinBit|byte(ws.OpText), []byte(message)), together),
		reply: bytes.Repeat(wstest.ServerFrame(ws.FinBit|byte(ws.OpText), message), together),
	}
	c.got = make([]byte, len(c.sent))
	if mode == "echo" {
		c.client = s.Dial(t, protocol, "/echo")
	} else {
		c.client, c.app = u.For(t).Tunnel(s, protocol)
	}
	return c
}

// exchange sends what the socket carries, and receives the reply.
func (c *socket) exchange(t *testing.T) {
	t.Helper()
	c.send(t)
	c.client.SetReadDeadline(time.Now().Add(wstest.Timeout))
	got := c.got[:len(c.reply)]
	if _, err := io.ReadFull(c.client.Reader, got); err != nil || !bytes.Equal(got, c.reply) {
		t.Fatalf("%s: got %.60q, %v", c.client.Name, got, err)
	}
}

// send sends what the socket carries, and has the application reply.
func (c *socket) send(t *testing.T) {
	t.Helper()
	c.client.WriteRaw(c.sent)
	if c.app == nil {
		return
	}
	c.app.SetReadDeadline(time.Now().Add(wstest.Timeout))
	if _, err := io.ReadFull(c.app.Reader, c.got); err != nil {
		t.Fatal(err)
	}
	c.app.WriteRaw(c.reply)
}

// close closes the socket as client and application should.
func (c *socket) close() {
	if c.app == nil {
		c.client.CloseNormally()
		return
	}
	payload := string(ws.ClosePayload(1000, "bye"))
	c.client.Send(ws.OpClose, payload)
	c.app.ExpectMasked(ws.OpClose, payload)
	c.app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpClose), payload))
	c.app.Conn.Close()
	c.client.ExpectClose(1000, "bye")
	c.client.Conn.Close()
}

// onEach runs f for each mode on each protocol.
func onEach(t *testing.T, f func(t *testing.T, mode, protocol string)) {
	t.Helper()
	for _, mode := range []string{"echo", "passthrough"} {
		for _, protocol := range wstest.Protocols {
			t.Run(mode+"/"+protocol, func(t *testing.T) { f(t, mode, protocol) })
		}
	}
}
