package caddywebsocket

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// After a reload, bytes of an application that are like the Close frame that
// reverse_proxy writes at one pass, whether within a frame or as one.
func TestTunnelPayloadLikeProxyClose(t *testing.T) {
	u := listenUpstream(t)
	site := "websocket passthrough {\nallowed_origins *\n}\nrespond /no-socket 204\nreverse_proxy " + u.Addr().String() + " {\nstream_close_delay 1h\n}"
	s := start(t, site)
	for i, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			u := &upstream{u.Listener, t}
			client, app := u.tunnel(s, protocol)
			client.send(ws.OpText, "hello")
			app.expectMasked(ws.OpText, "hello")
			s.reload(t, "", fmt.Sprintf("header X-Config %d\n%s", i, site))
			payload := string(serverFrame(ws.FinBit|byte(ws.OpClose), string(ws.ClosePayload(1001, ""))))
			// Each write is seen to have passed before the next, so none is joined to another.
			for n := range 3 {
				frame := serverFrame(ws.FinBit|byte(ws.OpBinary), payload+strings.Repeat("x", n))
				app.write(frame[:2])
				if n > 0 {
					app.write(frame[2 : 2+len(payload)])
				}
				sent := 2
				if n > 0 {
					sent += len(payload)
				}
				client.deadline(time.Now().Add(patience))
				if got, err := client.br.Peek(sent); err != nil || string(got) != string(frame[:sent]) {
					t.Fatalf("got %x, %v, want %x", got, err, frame[:sent])
				}
				app.write(frame[sent:])
				client.expect(ws.OpBinary, payload+strings.Repeat("x", n))
			}
			app.write([]byte(payload))
			client.expectClose(1001, "")
			app.rw.Close()
			client.rw.Close()
		})
	}
}
