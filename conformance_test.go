package caddywebsocket

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

func TestConformance(t *testing.T) { //nolint:tparallel // Caddy is one for the process
	s := start(t, "websocket {\ncompression on\nmax_message_size 1MiB\n}")
	s.share(t)
	names := make(map[string]bool)
	for _, e := range exchanges {
		if names[e.rule] {
			t.Errorf("%s stands twice", e.rule)
		}
		names[e.rule] = true
	}
	for _, protocol := range protocols {
		for _, extension := range []string{"plain", "deflate"} {
			for _, way := range []string{"whole", "chopped"} {
				if way == "chopped" && protocol != "http1" {
					continue // pieces are the same to what is above the connection
				}
				t.Run(protocol+"/"+extension+"/"+way, func(t *testing.T) {
					t.Parallel()
					for _, e := range exchanges {
						if e.only == "" || e.only == extension {
							t.Run(e.rule, func(t *testing.T) {
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

func tryExchange(t *testing.T, e exchange, s *server, protocol, extension, way string) {
	offer := "-"
	if extension == "deflate" {
		offer = "permessage-deflate; client_max_window_bits"
	}
	sent, want := clientBytes(e.sent), strings.Fields(e.want)
	if len(want) == 0 || !strings.HasPrefix(want[len(want)-1], "X:") {
		sent = append(sent, clientBytes("X:1000,end")...)
		want = append(want, "X:1000,end")
	}
	if way == "chopped" && len(sent) > longestChopped {
		return
	}
	p := s.dial(t, protocol, "/", "Sec-WebSocket-Extensions", offer)
	if negotiated := p.res.Header.Get("Sec-WebSocket-Extensions") != ""; negotiated != (extension == "deflate") {
		t.Fatalf("%s: compression negotiated is %t", protocol, negotiated)
	}
	closed := make(chan struct{})
	defer close(closed)
	go sendExchange(p, sent, way == "chopped", closed)
	for i, word := range want {
		first, payload := p.readEvent()
		if !matches(word, first, payload) {
			t.Fatalf("got %#x %.100q of %d bytes, want %.60s (%d of %d)", first, payload, len(payload), word, i+1, len(want))
		}
	}
	closed <- struct{}{}
	<-closed // what comes after a Close doesn't matter
	p.expectCleanEnd()
	p.rw.Close()
}

// sendExchange sends the bytes, and one message more when the server has closed.
func sendExchange(p *peer, sent []byte, chopped bool, closed chan struct{}) {
	if chopped {
		for i := range sent {
			if _, err := p.rw.Write(sent[i : i+1]); err != nil {
				break
			}
		}
	} else {
		_, _ = p.rw.Write(sent)
	}
	if _, ok := <-closed; ok {
		_, _ = p.rw.Write(clientBytes("T:too\\x20late"))
		closed <- struct{}{}
	}
}

// Every close code gets the verdict that it should.
func TestCloseCodes(t *testing.T) {
	for code := range 5001 {
		bubble(t, func(t *testing.T) {
			p := pipe(t, new(Handler))
			p.write(clientBytes(fmt.Sprintf("X:%d", code)))
			if mayBeSent(code) {
				p.expectClose(code, "")
			} else {
				p.expectClose(1002, fmt.Sprintf("close code %d", code))
			}
			p.expectEnd()
		})
	}
}

// A Close that is cut anywhere, or that never ends, isn't one.
func TestNothingComesBackForPartsOfFrames(t *testing.T) {
	for _, notation := range []string{"X:1000,bye", "P:ping", "T:%20", "B:%300", "z+T:%50"} {
		whole := clientBytes(notation)
		for cut := range whole {
			bubble(t, func(t *testing.T) {
				p := pipe(t, &Handler{Compression: "on"})
				p.write(whole[:cut])
				p.expectSilence(1)
				p.write(whole[cut:])
				first, payload := p.readEvent()
				if notation[0] == 'P' {
					first ^= byte(ws.OpPing ^ ws.OpPong)
				}
				if !matches(notation, first, payload) {
					t.Errorf("%s, cut after %d bytes: got %#x %q", notation, cut, first, bytes.TrimSpace(payload))
				}
			})
		}
	}
}
