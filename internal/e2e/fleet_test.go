package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// fleetSite has two sites' sockets.
const fleetSite = "websocket /one\nwebsocket /two"

// A fleetNode is a Caddy that shares its storage with others.
type fleetNode struct {
	*wstest.Process
	dir string // of its own data
}

func startFleetNode(t *testing.T, dir, binary string, storage map[string]any) fleetNode {
	t.Helper()
	return fleetNode{wstest.StartNode(t, dir, binary, storage, fleetSite), dir}
}

// inFolder is a storage on the file system.
func inFolder(dir string) map[string]any {
	return map[string]any{"module": "file_system", "root": dir}
}

// open opens a socket that is listed.
func (n fleetNode) open(t *testing.T, path string) *wstest.Peer {
	t.Helper()
	peer := n.Dial(t, "http1", path)
	peer.Echo(ws.OpText, "hello")
	return peer
}

// closeFleet closes the sockets of a path on all nodes and returns the answer.
func (n fleetNode) closeFleet(t *testing.T, path string) (status int, answer string) {
	t.Helper()
	status, answer, err := n.Call(http.MethodDelete, "/websocket/sessions?fleet=true&code=4000&reason=moved&path="+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return status, answer
}

// expectMoved expects the Close frame of closeFleet.
func expectMoved(peer *wstest.Peer) {
	peer.ExpectClose(4000, "moved")
	peer.AnswerClose(4000)
	peer.ExpectEnd()
	peer.Conn.Close()
}

// pollTime is longer than the nodes take to look at the storage twice.
const pollTime = 5 * time.Second

// checkFleet makes sure that a closing reaches all nodes that share a storage, and each
// once, also if it is restarted.
func checkFleet(t *testing.T, binary string, storage map[string]any) {
	t.Helper()
	first := startFleetNode(t, t.TempDir(), binary, storage)
	second := startFleetNode(t, t.TempDir(), binary, storage)
	closed := []*wstest.Peer{first.open(t, "/one"), second.open(t, "/one")}
	kept := []*wstest.Peer{first.open(t, "/two"), second.open(t, "/two")}
	start := time.Now()
	if status, answer := first.closeFleet(t, "/one"); status != http.StatusOK || answer != "{\"closing\":1}\n" {
		t.Fatalf("status %d: %s", status, answer)
	}
	for _, peer := range closed {
		expectMoved(peer)
	}
	t.Logf("closed after %v", time.Since(start).Round(time.Millisecond))

	// One that was away, and one that has carried it out, and comes back.
	away := startFleetNode(t, t.TempDir(), binary, storage)
	late := away.open(t, "/one")
	second.Terminate(t)
	kept[1].ExpectClose(1012, "")
	kept[1].AnswerClose(1012)
	second.ExpectExit(t)
	second = startFleetNode(t, second.dir, binary, storage)
	again := []*wstest.Peer{first.open(t, "/one"), second.open(t, "/one")}
	expectMoved(late)
	time.Sleep(pollTime)
	for _, peer := range append(again, kept[0]) {
		peer.Echo(ws.OpText, "not disturbed")
		peer.CloseNormally()
	}
}

func TestFleet(t *testing.T) {
	t.Parallel()
	checkFleet(t, "", inFolder(t.TempDir()))
}

// Closings that have expired, and those that a later version has written, are not carried
// out. What isn't one is left alone.
func TestFleetRecords(t *testing.T) {
	t.Parallel()
	storage := t.TempDir()
	folder := filepath.Join(storage, "websocket", "closings")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	ago := func(d time.Duration) int64 { return time.Now().Add(-d).UnixMilli() }
	expired, removed := fmt.Sprintf("%d-EXPIRED", ago(90*time.Second)), fmt.Sprintf("%d-REMOVED", ago(time.Hour))
	later, broken, none := fmt.Sprintf("%d-LATER", ago(0)), fmt.Sprintf("%d-BROKEN", ago(0)), fmt.Sprintf("%d-NONE", ago(0))
	for name, value := range map[string]string{
		expired: "path=/one", removed: "path=/one", removed + ".0123456789abcdef": "1",
		later: "path=/one&version=2", broken: "path=%zz", none: "code=4000", "other": "path=/one", "not-one": "path=/one",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	node := startFleetNode(t, t.TempDir(), "", inFolder(storage))
	peer := node.open(t, "/one")
	node.Logs.Await(t, "carrying out a closing of the fleet", 3)
	want := []string{expired, broken, later, none, "other", "not-one"}
	for deadline := time.Now().Add(wstest.Timeout); ; time.Sleep(10 * time.Millisecond) {
		left, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		if len(left) == len(want) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v is left, want %v", left, want)
		}
	}
	for _, name := range want {
		if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
			t.Error(err)
		}
	}
	peer.Echo(ws.OpText, "not disturbed")
	peer.CloseNormally()
}

// A storage that fails is an error, and no socket is closed.
func TestFleetStorageFails(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	node := startFleetNode(t, t.TempDir(), "", inFolder(file))
	peer := node.open(t, "/one")
	if status, answer := node.closeFleet(t, "/one"); status != http.StatusBadGateway || !strings.Contains(answer, "storing the closing for the fleet") {
		t.Errorf("status %d: %s", status, answer)
	}
	for query, want := range map[string]string{
		"fleet=yes&mode=echo": `{"error":"fleet 'yes': it must be true or false"}`,
		"fleet=true":          `{"error":"closing sessions requires a filter, at least one of client_ip, expires_after, expires_at, expires_before, host, mode, path, server, subprotocol, upstream, user_id"}`,
	} {
		status, answer, err := node.Call(http.MethodDelete, "/websocket/sessions?"+query, nil)
		if err != nil || status != http.StatusBadRequest || answer != want+"\n" {
			t.Errorf("%s: got %d %s %v, want 400 %s", query, status, answer, err, want)
		}
	}
	time.Sleep(pollTime)
	if n := len(node.Logs.Entries("looking for closings of the fleet")); n != 1 {
		t.Errorf("%d log entries say that the storage fails, want 1", n)
	}
	peer.Echo(ws.OpText, "not disturbed")
	peer.CloseNormally()
}
