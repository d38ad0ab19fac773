package caddywebsocket

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

func TestExit(t *testing.T) {
	stop := map[string]func(t *testing.T, p *process){
		"SIGTERM": func(t *testing.T, p *process) { p.terminate(t) },
		"admin API": func(t *testing.T, p *process) {
			stopped := make(chan error, 1)
			go func() { stopped <- p.post("/stop", nil) }() // it answers when all is over
			t.Cleanup(func() {
				if err := <-stopped; err != nil {
					t.Error(err)
				}
			})
		},
		"SIGTERM after reload": func(t *testing.T, p *process) {
			p.reload(t, "", "websocket /elsewhere\nrespond new")
			p.terminate(t)
		},
		"SIGTERM without a handler of ours": func(t *testing.T, p *process) {
			p.reload(t, "", "respond new")
			p.terminate(t)
		},
	}
	for name, stop := range stop {
		t.Run(name, func(t *testing.T) {
			p := startProcess(t, "", "websocket")
			peers := p.dialAll(t)
			stop(t, p)
			for _, peer := range peers {
				peer.expectClose(1012, "")
				peer.sendClose(1012, "")
				peer.expectEnd()
				peer.rw.Close()
			}
			p.expectExit(t)
		})
	}
}

// Clients that don't answer, or don't even read, hold up no exit.
func TestExitWithDeafClients(t *testing.T) {
	p := startProcess(t, "", "websocket {\nwrite_timeout 1h\n}")
	var stalled sync.WaitGroup
	for _, peer := range p.dialAll(t) {
		if peer.name == "http1" {
			continue // this one reads and doesn't answer
		}
		progress := make(chan struct{})
		stalled.Go(func() {
			block := clientFrame(ws.FinBit|byte(ws.OpBinary), make([]byte, 1<<20))
			for {
				if _, err := peer.rw.Write(block); err != nil {
					return
				}
				select {
				case progress <- struct{}{}:
				case <-t.Context().Done():
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
	p.terminate(t)
	p.expectExit(t)
	p.cmd.Process.Kill()
	stalled.Wait()
}

// An HTTP/2 client that doesn't read from its connection at all is cut as well,
// though not even the reset of its stream gets through.
func TestDeafHTTP2Connection(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "large"), make([]byte, 20<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, "websocket /ws {\nwrite_timeout 200ms\n}\nfile_server {\nroot "+dir+"\n}")
	conn, err := tls.Dial("tcp", s.secure, insecure("h2"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	framer := http2.NewFramer(conn, conn)
	io.WriteString(conn, http2.ClientPreface)
	framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	framer.WriteWindowUpdate(0, 1<<30)
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	request := func(stream uint32, end bool, fields ...string) {
		block.Reset()
		for i := 0; i < len(fields); i += 2 {
			encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
		framer.WriteHeaders(http2.HeadersFrameParam{
			StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end,
		})
	}
	request(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "https",
		":authority", s.secure, ":path", "/ws", "sec-websocket-version", "13")
	s.logs.await(t, "socket opened", 1)
	request(3, true, ":method", "GET", ":scheme", "https", ":authority", s.secure, ":path", "/large")
	// What is echoed before the file has filled all buffers still gets through.
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := 0; i < 50 && len(s.logs.entries("socket closed")) == 0; i++ {
		<-tick.C
		framer.WriteData(1, false, clientFrame(ws.FinBit|byte(ws.OpBinary), make([]byte, 10_000)))
	}
	if by := s.logs.await(t, "socket closed", 1)[0]["closed_by"]; by != string(byWriteTimeout) {
		t.Errorf("closed by %v, want %v", by, byWriteTimeout)
	}
}

func TestSocketsSurviveReloads(t *testing.T) {
	s := start(t, "websocket\nheader X-Config 0")
	peers := s.dialAll(t)
	for i := range 20 {
		s.reload(t, "", fmt.Sprintf("websocket\nheader X-Config %d", i+1))
		for _, p := range peers {
			p.echo(ws.OpText, "still there")
		}
	}
	for _, p := range peers {
		p.bye()
	}
	p := s.dial(t, "http1", "/")
	if got := p.res.Header.Get("X-Config"); got != "20" {
		t.Errorf("a new socket has config %s, want 20", got)
	}
	p.bye()
}

func TestCloseDelayAfterReload(t *testing.T) {
	s := start(t, "websocket {\nclose_delay 100ms\n}")
	peers := s.dialAll(t)
	s.reload(t, "", "websocket {\nkeepalive 5m\n}")
	for _, p := range peers {
		p.expectClose(1012, "")
		p.sendClose(1012, "")
		p.expectEnd()
		p.rw.Close()
	}
}

// On every protocol a client that vanishes, or goes on without a word, is
// found, and one that stops reading is, too.
func TestEndsOnEveryProtocol(t *testing.T) {
	s := start(t, "websocket /keepalive {\nkeepalive 50ms 120ms\n}\nwebsocket /stall {\nwrite_timeout 100ms\n}")
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			silent := s.dial(t, protocol, "/keepalive")
			silent.expectPing()
			silent.expectEndAfterPings()
			silent.expectEnd()

			gone := s.dial(t, protocol, "/stall")
			gone.echo(ws.OpText, "hello")
			gone.rw.Close()

			stalled := s.dial(t, protocol, "/stall")
			block := clientFrame(ws.FinBit|byte(ws.OpBinary), make([]byte, 1<<20))
			for deadline := time.Now().Add(patience); ; {
				if _, err := stalled.rw.Write(block); err != nil {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("a stalled socket stays open")
				}
			}
		})
	}
	closed := s.logs.await(t, "socket closed", 3*len(protocols))
	count := make(map[any]int)
	for _, e := range closed {
		count[e["closed_by"]]++
	}
	for _, by := range []cause{byKeepaliveTimeout, byClient, byWriteTimeout} {
		if count[string(by)] != len(protocols) {
			t.Errorf("%d sockets closed by %s, want %d: %v", count[string(by)], by, len(protocols), count)
		}
	}
}
