package wstest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// A LogBuffer holds what Caddy logs in one test.
type LogBuffer struct {
	mu      sync.Mutex
	text    []byte
	written chan struct{} // closed by the next Write, nil if nobody waits for it

	// Many tests may wait for entries of a long log, so each line is parsed once.
	parsed  int                         // how much of text has been
	entries map[string][]map[string]any // by their messages
}

func (b *LogBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.written != nil {
		close(b.written)
		b.written = nil
	}
	b.text = append(b.text, p...)
	return len(p), nil
}

func (b *LogBuffer) Close() error { return nil }

func (b *LogBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.text)
}

// Entries are the log entries with the given message, for the test to read, not to change.
func (b *LogBuffer) Entries(msg string) []map[string]any {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.entriesLocked(msg)
}

func (b *LogBuffer) entriesLocked(msg string) []map[string]any {
	if b.entries == nil {
		b.entries = make(map[string][]map[string]any)
	}
	for line := range bytes.Lines(b.text[b.parsed:]) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		b.parsed += len(line)
		var e map[string]any
		if json.Unmarshal(line, &e) != nil {
			continue
		}
		if of, ok := e["msg"].(string); ok {
			b.entries[of] = append(b.entries[of], e)
		}
	}
	return slices.Clip(b.entries[msg])
}

// entriesOrMore is Entries, and a channel that is closed when there may be more.
func (b *LogBuffer) entriesOrMore(msg string) ([]map[string]any, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.written == nil {
		b.written = make(chan struct{})
	}
	return b.entriesLocked(msg), b.written
}

// Await waits for n log entries with the given message.
func (b *LogBuffer) Await(t *testing.T, msg string, n int) []map[string]any {
	t.Helper()
	deadline := time.After(Timeout)
	for {
		entries, more := b.entriesOrMore(msg)
		if len(entries) >= n {
			return entries
		}
		select {
		case <-deadline:
			t.Fatalf("%d entries %q in the log, want %d", len(entries), msg, n)
		case <-more:
		}
	}
}

// logBuffers are those of the tests under way, by name.
var logBuffers sync.Map

// LogOf returns the log buffer of the test that Caddy knows by a name.
func LogOf(name string) (*LogBuffer, error) {
	buffer, ok := logBuffers.Load(name)
	if !ok {
		return nil, fmt.Errorf("no test %s", name)
	}
	return buffer.(*LogBuffer), nil
}

// LastAccess waits for one more access log entry than there were before and
// gives it, and its websocket object.
func (s *Server) LastAccess(t *testing.T, before int) (entry, socket map[string]any) {
	t.Helper()
	entries := s.Logs.Await(t, "handled request", before+1)
	entry = entries[len(entries)-1]
	socket, _ = entry["websocket"].(map[string]any)
	if socket == nil {
		t.Fatalf("no websocket object in %v", entry)
	}
	return entry, socket
}
