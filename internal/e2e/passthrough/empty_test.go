package passthrough

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// HTTP/3 may carry a DATA frame without data anywhere.
func TestEmptyDataFrames(t *testing.T) {
	const text = "text that stays one message"
	t.Run("echo", func(t *testing.T) {
		s := wstest.Start(t, "websocket")
		p := s.Dial(t, "http3", "/")
		writeApart(p, wstest.ClientFrame(ws.FinBit|byte(ws.OpText), []byte(text)))
		p.Expect(ws.OpText, text)
		long := strings.Repeat(text, 1000)
		writeApart(p, wstest.ClientFrame(ws.FinBit|byte(ws.OpText), []byte(long)))
		p.Expect(ws.OpText, long)
		p.CloseNormally()
	})
	t.Run("passthrough", func(t *testing.T) {
		u := wstest.ListenUpstream(t)
		s := wstest.Start(t, fmt.Sprintf("websocket passthrough {\nallowed_origins *\n}\nrespond /no-socket 204\nreverse_proxy %s", u.Addr()))
		client, app := u.Tunnel(s, "http3")
		writeApart(client, wstest.ClientFrame(ws.FinBit|byte(ws.OpText), []byte(text)))
		app.ExpectMasked(ws.OpText, text)
		writeApart(client, wstest.ClientFrame(ws.FinBit|byte(ws.OpClose), ws.ClosePayload(1000, "bye")))
		app.ExpectMasked(ws.OpClose, string(ws.ClosePayload(1000, "bye")))
		app.WriteRaw(wstest.ServerFrame(ws.FinBit|byte(ws.OpClose), string(ws.ClosePayload(1000, "bye"))))
		app.Conn.Close()
		client.ExpectClose(1000, "bye")
		app.Conn.Close()
		client.ExpectEnd()
	})
}

// writeApart writes each byte, or a hundredth of many, between two empty DATA
// frames.
func writeApart(p *wstest.Peer, data []byte) {
	p.T.Helper()
	step := max(1, len(data)/100)
	for len(data) > 0 {
		n := min(step, len(data))
		p.WriteRaw(nil)
		p.WriteRaw(data[:n])
		data = data[n:]
	}
	p.WriteRaw(nil)
}
