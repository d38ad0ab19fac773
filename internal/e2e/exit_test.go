package e2e

import (
	"sync"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

func TestExit(t *testing.T) {
	t.Parallel()
	stop := map[string]func(t *testing.T, p *wstest.Process){
		"SIGTERM": func(t *testing.T, p *wstest.Process) { p.Terminate(t) },
		"admin API": func(t *testing.T, p *wstest.Process) {
			stopped := make(chan error, 1)
			go func() { stopped <- p.Post("/stop", nil) }() // it answers when all is over
			t.Cleanup(func() {
				if err := <-stopped; err != nil {
					t.Error(err)
				}
			})
		},
		"SIGTERM after reload": func(t *testing.T, p *wstest.Process) {
			p.Reload(t, "", "websocket /elsewhere\nrespond new")
			p.Terminate(t)
		},
		"SIGTERM without a handler of ours": func(t *testing.T, p *wstest.Process) {
			p.Reload(t, "", "respond new")
			p.Terminate(t)
		},
	}
	for name, stop := range stop {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := wstest.StartProcess(t, "", "websocket")
			peers := p.DialAll(t)
			wait := wstest.Follow(peers, func(peer *wstest.Peer) { peer.ExpectClosing(1012, "") })
			stop(t, p)
			wait()
			p.ExpectExit(t)
		})
	}
}

// Clients that don't answer, or don't even read, hold up no exit.
func TestExitWithDeafClients(t *testing.T) {
	t.Parallel()
	p := wstest.StartProcess(t, "", "websocket {\nwrite_timeout 1h\n}")
	var stalled sync.WaitGroup
	ended := make(chan struct{})
	for _, peer := range p.DialAll(t) {
		if peer.Name == "http1" {
			continue // this one reads and doesn't answer
		}
		progress := make(chan struct{})
		stalled.Go(func() {
			block := wstest.ClientFrame(ws.FinBit|byte(ws.OpBinary), make([]byte, 1<<20))
			for {
				if _, err := peer.Conn.Write(block); err != nil {
					return
				}
				select {
				case progress <- struct{}{}:
				case <-ended:
					return
				}
			}
		})
		for moving := true; moving; {
			select {
			case <-progress:
			case <-time.After(500 * time.Millisecond):
				moving = false // the echo fills all buffers on the way
			}
		}
	}
	p.Terminate(t)
	p.ExpectExit(t)
	p.Cmd.Process.Kill()
	close(ended)
	stalled.Wait()
}

// On every protocol a client that vanishes, or goes on without a word, is
// found, and one that stops reading is, too.
func TestEndsOnEveryProtocol(t *testing.T) {
	s := wstest.Start(t, "websocket /keepalive {\nkeepalive 50ms 120ms\n}\nwebsocket /stall {\nwrite_timeout 100ms\n}")
	wstest.SideBySide(t, func(t *testing.T, protocol string) {
		silent := s.Dial(t, protocol, "/keepalive")
		silent.ExpectPing()
		silent.ExpectEndAfterPings()
		silent.ExpectEnd()

		gone := s.Dial(t, protocol, "/stall")
		gone.Echo(ws.OpText, "hello")
		gone.Conn.Close()

		stalled := s.Dial(t, protocol, "/stall")
		block := wstest.ClientFrame(ws.FinBit|byte(ws.OpBinary), make([]byte, 1<<20))
		for deadline := time.Now().Add(wstest.Timeout); ; {
			if _, err := stalled.Conn.Write(block); err != nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("a stalled socket stays open")
			}
		}
	})
	closed := s.Logs.Await(t, "socket closed", 3*len(wstest.Protocols))
	count := make(map[any]int)
	for _, e := range closed {
		count[e["closed_by"]]++
	}
	for _, by := range []string{"keepalive_timeout", "client", "write_timeout"} {
		if count[by] != len(wstest.Protocols) {
			t.Errorf("%d sockets closed by %s, want %d: %v", count[by], by, len(wstest.Protocols), count)
		}
	}
}
