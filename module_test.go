package caddywebsocket

import (
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

func TestEchoOnEveryProtocol(t *testing.T) {
	s := wstest.Start(t, "log\nwebsocket /ws")
	for _, protocol := range wstest.Protocols {
		t.Run(protocol, func(t *testing.T) {
			p := s.Dial(t, protocol, "/ws")
			p.Echo(ws.OpText, "hello")
			p.Echo(ws.OpBinary, "\x00\xff")
			p.Echo(ws.OpText, "")
			p.Echo(ws.OpBinary, strings.Repeat("x", 4096))
			p.Echo(ws.OpBinary, strings.Repeat("y", 65536))
			p.Send(ws.OpPing, "ping")
			p.Expect(ws.OpPong, "ping")
			p.CloseNormally()
		})
	}
}
