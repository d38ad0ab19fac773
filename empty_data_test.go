package caddywebsocket

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// HTTP/3 may carry a DATA frame without data anywhere.
func TestEmptyDataFrames(t *testing.T) {
	const text = "text that stays one message"
	t.Run("echo", func(t *testing.T) {
		s := start(t, "websocket")
		p := s.dial(t, "http3", "/")
		writeApart(p, clientFrame(ws.FinBit|byte(ws.OpText), []byte(text)))
		p.expect(ws.OpText, text)
		long := strings.Repeat(text, 1000)
		writeApart(p, clientFrame(ws.FinBit|byte(ws.OpText), []byte(long)))
		p.expect(ws.OpText, long)
		p.bye()
	})
	t.Run("passthrough", func(t *testing.T) {
		u := listenUpstream(t)
		s := start(t, fmt.Sprintf("websocket passthrough {\nallowed_origins *\n}\nrespond /no-socket 204\nreverse_proxy %s", u.Addr()))
		client, app := u.tunnel(s, "http3")
		writeApart(client, clientFrame(ws.FinBit|byte(ws.OpText), []byte(text)))
		app.expectMasked(ws.OpText, text)
		writeApart(client, clientFrame(ws.FinBit|byte(ws.OpClose), ws.ClosePayload(1000, "bye")))
		app.expectMasked(ws.OpClose, string(ws.ClosePayload(1000, "bye")))
		app.write(serverFrame(ws.FinBit|byte(ws.OpClose), string(ws.ClosePayload(1000, "bye"))))
		client.expectClose(1000, "bye")
		client.expectEnd()
	})
}

// writeApart writes each byte, or a hundredth of many, between two empty DATA
// frames.
func writeApart(p *peer, data []byte) {
	p.t.Helper()
	step := max(1, len(data)/100)
	for len(data) > 0 {
		n := min(step, len(data))
		p.write(nil)
		p.write(data[:n])
		data = data[n:]
	}
	p.write(nil)
}
