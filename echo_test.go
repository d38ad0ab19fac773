package caddywebsocket

import (
	"bytes"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// Every close code gets the verdict that it should.
func TestCloseCodes(t *testing.T) {
	for code := range 5001 {
		bubble(t, func(t *testing.T) {
			p := pipe(t, new(Handler))
			p.WriteRaw(wstest.ClientBytes(fmt.Sprintf("X:%d", code)))
			if mayBeSent(code) {
				p.ExpectClose(code, "")
			} else {
				p.ExpectClose(1002, fmt.Sprintf("close code %d", code))
			}
			p.ExpectEnd()
		})
	}
}

// A Close that is cut anywhere, or that never ends, isn't one.
func TestNothingComesBackForPartsOfFrames(t *testing.T) {
	for _, notation := range []string{"X:1000,bye", "P:ping", "T:%20", "B:%300", "z+T:%50"} {
		whole := wstest.ClientBytes(notation)
		for cut := range whole {
			bubble(t, func(t *testing.T) {
				p := pipe(t, &Handler{Compression: "on"})
				p.WriteRaw(whole[:cut])
				p.ExpectSilence(1)
				p.WriteRaw(whole[cut:])
				first, payload := p.ReadEvent()
				if notation[0] == 'P' {
					first ^= byte(ws.OpPing ^ ws.OpPong)
				}
				if !wstest.Matches(notation, first, payload) {
					t.Errorf("%s, cut after %d bytes: got %#x %q", notation, cut, first, bytes.TrimSpace(payload))
				}
			})
		}
	}
}

// countingConn counts reads.
type countingConn struct {
	net.Conn
	reads int
}

func (c *countingConn) Read(p []byte) (int, error) {
	c.reads++
	return c.Conn.Read(p)
}

// Where waiting takes a byte off the stream, the rest must not come byte by
// byte.
func TestReadsAreLarge(t *testing.T) {
	const size = 256 << 10
	noise := make([]byte, size)
	for i := range noise {
		noise[i] = byte(mathrand.Uint32())
	}
	for name, message := range map[string][]byte{
		"plain":      wstest.ClientFrame(ws.FinBit|byte(ws.OpBinary), noise),
		"compressed": wstest.ClientFrame(ws.FinBit|ws.RSV1Bit|byte(ws.OpBinary), wstest.Deflate(string(noise))),
		"fragments": slices.Concat(wstest.ClientFrame(byte(ws.OpBinary), noise[:size/2]),
			wstest.ClientFrame(ws.FinBit, noise[size/2:])),
		"after a close frame": slices.Concat(wstest.ClientFrame(ws.FinBit|byte(ws.OpClose), nil), noise),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := &Handler{Compression: "on"}
				server, client := net.Pipe()
				conn := &countingConn{Conn: server}
				p := pipeOver(t, h, conn, client)
				go p.Conn.Write(message)
				for {
					if f := p.ReadFrame(); f.First&ws.FinBit != 0 {
						break
					}
				}
				p.Conn.Close()
				synctest.Wait()
				if limit := len(message)/int(h.BufferSize) + 20; conn.reads > limit {
					t.Errorf("%d reads for %d bytes, want no more than %d", conn.reads, len(message), limit)
				}
			})
		})
	}
}
