package caddywebsocket

import "testing"

// They cost other requests no memory beyond the replacer's.
func TestPlaceholdersAllocateNothing(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() { _, _ = noPlaceholder("http.websocket.id") }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
