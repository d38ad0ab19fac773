package e2e

import (
	"bytes"
	"crypto/tls"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

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
			stop(t, p)
			for _, peer := range peers {
				peer.ExpectClose(1012, "")
				peer.SendClose(1012, "")
				peer.ExpectEnd()
				peer.Conn.Close()
			}
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

// An HTTP/2 client that doesn't read from its connection at all is cut as well,
// though not even the reset of its stream gets through.
func TestDeafHTTP2Connection(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "large"), make([]byte, 20<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s := wstest.Start(t, "websocket /ws {\nwrite_timeout 200ms\n}\nfile_server {\nroot "+dir+"\n}")
	conn, err := tls.Dial("tcp", s.Secure, wstest.InsecureTLS("h2"))
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
		":authority", s.Secure, ":path", "/ws", "sec-websocket-version", "13")
	s.Logs.Await(t, "socket opened", 1)
	request(3, true, ":method", "GET", ":scheme", "https", ":authority", s.Secure, ":path", "/large")
	// What is echoed before the file has filled all buffers still gets through.
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := 0; i < 50 && len(s.Logs.Entries("socket closed")) == 0; i++ {
		<-tick.C
		framer.WriteData(1, false, wstest.ClientFrame(ws.FinBit|byte(ws.OpBinary), make([]byte, 10_000)))
	}
	if by := s.Logs.Await(t, "socket closed", 1)[0]["closed_by"]; by != string("write_timeout") {
		t.Errorf("closed by %v, want %v", by, "write_timeout")
	}
}

// On every protocol a client that vanishes, or goes on without a word, is
// found, and one that stops reading is, too.
func TestEndsOnEveryProtocol(t *testing.T) {
	s := wstest.Start(t, "websocket /keepalive {\nkeepalive 50ms 120ms\n}\nwebsocket /stall {\nwrite_timeout 100ms\n}")
	for _, protocol := range wstest.Protocols {
		t.Run(protocol, func(t *testing.T) {
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
	}
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
