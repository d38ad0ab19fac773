package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// Whatever a script still has to do, an exit ends it: with a Close frame where one fits in.
func TestControlsExit(t *testing.T) {
	t.Parallel()
	p := wstest.StartBeside(t, "", controlledSite)
	var closed, ended []*wstest.Peer
	for _, protocol := range wstest.Protocols {
		for query, send := range map[string]string{
			"delay=60s":                      "T:a",
			"rate=1":                         "T:%1000",
			"interval=60s":                   "",
			"close=1000&after=60s&ping=50ms": "",
			"abort&after=60s":                "T:a",
			"drop=1":                         "T:a",
		} {
			peer := p.Dial(t, protocol, "/plain?"+query)
			if send != "" {
				peer.WriteRaw(wstest.ClientBytes(send))
			}
			closed = append(closed, peer)
		}
		never := p.Dial(t, protocol, "/plain?close_reply=never")
		never.SendClose(1000, "")
		ended = append(ended, never)
		stalled := p.Dial(t, protocol, "/plain?interval=0&size=16MiB&count=4")
		ended = append(ended, stalled)
	}
	waiting := make(chan int, len(wstest.Protocols))
	for _, protocol := range wstest.Protocols {
		go func() {
			peer, err := p.Connect(protocol, "/plain?accept_delay=60s")
			if err != nil {
				waiting <- 0
				return
			}
			waiting <- peer.Response.StatusCode
			peer.Conn.Close()
		}()
	}
	p.Logs.Await(t, waits, len(wstest.Protocols))
	p.Terminate(t)
	for _, peer := range closed {
		for {
			f := peer.ReadFrame()
			if f.Opcode() == ws.OpClose {
				if string(f.Payload) != string(ws.ClosePayload(1012, "")) {
					t.Errorf("%s: closed with %q", peer.Name, f.Payload)
				}
				break
			}
		}
		peer.SendClose(1012, "")
		peer.Conn.Close()
	}
	for range wstest.Protocols {
		if status := <-waiting; status != http.StatusServiceUnavailable {
			t.Errorf("a handshake that waits gets %d, want 503", status)
		}
	}
	p.ExpectExit(t)
	for _, peer := range ended {
		peer.Conn.Close()
	}
}

// Sockets with controls outlive a reload as all do, and go on.
func TestControlsReload(t *testing.T) {
	t.Parallel()
	s := wstest.StartBeside(t, "", controlledSite)
	var peers []*wstest.Peer
	for _, protocol := range wstest.Protocols {
		peers = append(peers, s.Dial(t, protocol, "/plain?interval=50ms&size=1&close=4000&after=10"))
	}
	wait := wstest.Follow(peers, func(p *wstest.Peer) {
		for range 10 {
			if got := receiveNotation(p); !strings.HasPrefix(got, "T:") {
				t.Errorf("%s: got %s", p.Name, got)
			}
		}
		p.ExpectClosing(4000, "")
	})
	s.Reload(t, "", controlledSite+"\nrespond /other 204")
	wait()
}

// Clients that don't read, leave at any time, or break rules hold nothing.
func TestControlsRudeClients(t *testing.T) {
	t.Parallel()
	s := wstest.StartBeside(t, "", controlledSite)
	n := 0
	for _, protocol := range wstest.Protocols {
		for _, query := range []string{
			"delay=60s", "rate=1", "interval=0&size=16MiB", "fragment=1&interval=0&size=1MiB", "drop=1", "ping=10ms&rate=1", "close_reply=never", "close=1000",
		} {
			for _, send := range []string{"", "T:%100000", "t:a", "T:a@0 #ffff", "#8f80", "X:1000 T:a"} {
				p := s.Dial(t, protocol, "/plain?"+query)
				if send != "" {
					_, _ = p.Conn.Write(wstest.ClientBytes(send))
				}
				p.Conn.Close()
				n++
			}
		}
	}
	for seen := 0; n > 0; {
		entries := s.Logs.Await(t, "handled request", seen+1)
		for _, e := range entries[seen:] {
			if e["websocket"] != nil {
				n--
			}
		}
		seen = len(entries)
	}
}
