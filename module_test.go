package caddywebsocket

import (
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

func TestEchoOnEveryProtocol(t *testing.T) {
	s := start(t, "log\nwebsocket /ws")
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			p := s.dial(t, protocol, "/ws")
			p.echo(ws.OpText, "hello")
			p.echo(ws.OpBinary, "\x00\xff")
			p.echo(ws.OpText, "")
			p.echo(ws.OpBinary, strings.Repeat("x", 4096))
			p.echo(ws.OpBinary, strings.Repeat("y", 65536))
			p.send(ws.OpPing, "ping")
			p.expect(ws.OpPong, "ping")
			p.bye()
		})
	}
}
