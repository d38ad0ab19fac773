package caddywebsocket

import (
	"strings"
	"testing"
)

func TestEchoOnEveryProtocol(t *testing.T) {
	s := start(t, "log\nwebsocket /ws")
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			p := s.dial(t, protocol, "/ws")
			p.echo(opText, "hello")
			p.echo(opBinary, "\x00\xff")
			p.echo(opText, "")
			p.echo(opBinary, strings.Repeat("x", 4096))
			p.echo(opBinary, strings.Repeat("y", 65536))
			p.send(opPing, "ping")
			p.expect(opPong, "ping")
			p.bye()
		})
	}
}
