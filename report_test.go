package caddywebsocket

import (
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// They cost other requests no memory beyond the replacer's.
func TestPlaceholdersAllocateNothing(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { _, _ = noPlaceholder("http.websocket.id") }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// What is told of sessions is what the document says.
func TestObservabilityDocument(t *testing.T) {
	text := wstest.ReadFile(t, "docs/observability.md")
	s := &session{handler: new(Handler)}
	names := []string{"host", "path", "client_ip", "user_id", "proto", "age"}
	for _, f := range s.report() {
		names = append(names, f.name)
	}
	for _, name := range names {
		if !strings.Contains(text, "`"+name+"`") && !strings.Contains(text, `"`+name+`":`) {
			t.Errorf("docs/observability.md doesn't say what %s is", name)
		}
	}
	for _, by := range []cause{
		byClient, byServer, byKeepaliveTimeout, byWriteTimeout, byLifetime, byExpired, byRecheck, byUpstreamTimeout, byReload, byShutdown, byAdmin, byUpstream, byTestControls, byError,
	} {
		if !strings.Contains(text, "`"+string(by)+"`") {
			t.Errorf("docs/observability.md doesn't say what closed_by %s is", by)
		}
	}
	for _, result := range append([]string{handshakeAccepted, handshakeDeclined, handshakeFailed, handshakeNoLogin, handshakeControlled}, refusalNames()...) {
		if !strings.Contains(text, "`"+result+"`") {
			t.Errorf("docs/observability.md doesn't have the handshake result %s", result)
		}
	}
}

func refusalNames() (names []string) {
	for _, name := range refusals {
		names = append(names, name)
	}
	return names
}
