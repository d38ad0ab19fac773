package passthrough

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// After a reload, bytes of an application that are like the Close frame that
// reverse_proxy writes at one pass, whether within a frame or as one.
func TestTunnelPayloadLikeProxyClose(t *testing.T) {
	u := wstest.ListenUpstream(t)
	site := "websocket passthrough {\nallowed_origins *\n}\nrespond /no-socket 204\nreverse_proxy " + u.Addr().String() + " {\nstream_close_delay 1h\n}"
	s := wstest.Start(t, site)
	for i, protocol := range wstest.Protocols {
		t.Run(protocol, func(t *testing.T) {
			u := u.For(t)
			client, app := u.Tunnel(s, protocol)
			client.Send(ws.OpText, "hello")
			app.ExpectMasked(ws.OpText, "hello")
			s.Reload(t, "", fmt.Sprintf("header X-Config %d\n%s", i, site))
			payload := string(wstest.ServerFrame(ws.FinBit|byte(ws.OpClose), string(ws.ClosePayload(1001, ""))))
			// Each write is seen to have passed before the next, so none is joined to another.
			for n := range 3 {
				frame := wstest.ServerFrame(ws.FinBit|byte(ws.OpBinary), payload+strings.Repeat("x", n))
				app.WriteRaw(frame[:2])
				if n > 0 {
					app.WriteRaw(frame[2 : 2+len(payload)])
				}
				sent := 2
				if n > 0 {
					sent += len(payload)
				}
				client.SetReadDeadline(time.Now().Add(wstest.Timeout))
				if got, err := client.Reader.Peek(sent); err != nil || string(got) != string(frame[:sent]) {
					t.Fatalf("got %x, %v, want %x", got, err, frame[:sent])
				}
				app.WriteRaw(frame[sent:])
				client.Expect(ws.OpBinary, payload+strings.Repeat("x", n))
			}
			app.WriteRaw([]byte(payload))
			client.ExpectClose(1001, "")
			app.Conn.Close()
			client.Conn.Close()
		})
	}
}
