package caddywebsocket

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest/conformance"
)

func TestConformance(t *testing.T) { //nolint:tparallel // Caddy is one for the process
	s := wstest.Start(t, "websocket {\ncompression on\nmax_message_size 1MiB\n}")
	s.ShareConnections(t)
	names := make(map[string]bool)
	for _, e := range conformance.Exchanges {
		if names[e.Rule] {
			t.Errorf("%s stands twice", e.Rule)
		}
		names[e.Rule] = true
	}
	for _, protocol := range wstest.Protocols {
		for _, extension := range []string{"plain", "deflate"} {
			for _, way := range []string{"whole", "chopped"} {
				if way == "chopped" && protocol != "http1" {
					continue // pieces are the same to what is above the connection
				}
				t.Run(protocol+"/"+extension+"/"+way, func(t *testing.T) {
					t.Parallel()
					for _, e := range conformance.Exchanges {
						if e.Only == "" || e.Only == extension {
							t.Run(e.Rule, func(t *testing.T) {
								t.Parallel()
								tryExchange(t, e, s, protocol, extension, way)
							})
						}
					}
				})
			}
		}
	}
}

// longestChopped is how much is ever sent byte by byte.
const longestChopped = 300

func tryExchange(t *testing.T, e conformance.Exchange, s *wstest.Server, protocol, extension, way string) {
	offer := "-"
	if extension == "deflate" {
		offer = "permessage-deflate; client_max_window_bits"
	}
	sent, want := wstest.ClientBytes(e.Sent), strings.Fields(e.Want)
	if len(want) == 0 || !strings.HasPrefix(want[len(want)-1], "X:") {
		sent = append(sent, wstest.ClientBytes("X:1000,end")...)
		want = append(want, "X:1000,end")
	}
	if way == "chopped" && len(sent) > longestChopped {
		return
	}
	p := s.Dial(t, protocol, "/", "Sec-WebSocket-Extensions", offer)
	if negotiated := p.Response.Header.Get("Sec-WebSocket-Extensions") != ""; negotiated != (extension == "deflate") {
		t.Fatalf("%s: compression negotiated is %t", protocol, negotiated)
	}
	closed := make(chan struct{})
	defer close(closed)
	go sendExchange(p, sent, way == "chopped", closed)
	for i, word := range want {
		first, payload := p.ReadEvent()
		if !wstest.Matches(word, first, payload) {
			t.Fatalf("got %#x %.100q of %d bytes, want %.60s (%d of %d)", first, payload, len(payload), word, i+1, len(want))
		}
	}
	closed <- struct{}{}
	<-closed // what comes after a Close doesn't matter
	p.ExpectCleanEnd()
	p.Conn.Close()
}

// sendExchange sends the bytes, and one message more when the server has closed.
func sendExchange(p *wstest.Peer, sent []byte, chopped bool, closed chan struct{}) {
	if chopped {
		for i := range sent {
			if _, err := p.Conn.Write(sent[i : i+1]); err != nil {
				break
			}
		}
	} else {
		_, _ = p.Conn.Write(sent)
	}
	if _, ok := <-closed; ok {
		_, _ = p.Conn.Write(wstest.ClientBytes("T:too\\x20late"))
		closed <- struct{}{}
	}
}

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
