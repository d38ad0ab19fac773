package e2e

import (
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest/conformance"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	s := &wstest.StartBeside(t, "", "websocket {\ncompression on\nmax_message_size 1MiB\n}").Server
	s.ShareConnections(t)
	names := make(map[string]bool)
	for _, e := range conformance.Exchanges {
		if names[e.Rule] {
			t.Errorf("%s is given more than once", e.Rule)
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

// The offers of RFC 7692 §7.1, and what of its parameters is answered: none if that is
// refused, + for no more than the context takeovers.
var offers = []struct{ rule, offer, answer string }{
	{"5.1 none", "-", ""},
	{"5.1 another extension", "x-webkit-deflate-frame", ""},
	{"5.1 bare", "permessage-deflate", "+"},
	{"5.1 in capitals", "Permessage-Deflate", ""},
	{"5.1 empty list", "", ""},
	{"5.1 empty elements", ", permessage-deflate,,", "+"},
	{"5.1 second of three", "permessage-bzip2, permessage-deflate, x", "+"},
	{"7.1 unknown parameter", "permessage-deflate; unknown", ""},
	{"7.1 unknown parameter, then a fallback", "permessage-deflate; unknown, permessage-deflate", "+"},
	{"7.1.1.1 server_no_context_takeover", "permessage-deflate; server_no_context_takeover", "+"},
	{"7.1.1.1 with a value", "permessage-deflate; server_no_context_takeover=1", ""},
	{"7.1.1.1 twice", "permessage-deflate; server_no_context_takeover; server_no_context_takeover", ""},
	{"7.1.1.2 client_no_context_takeover", "permessage-deflate; client_no_context_takeover", "+"},
	{"7.1.1.2 with a value", "permessage-deflate; client_no_context_takeover=0", ""},
	{"7.1.1.2 twice", "permessage-deflate; client_no_context_takeover; client_no_context_takeover", ""},
	{"7.1.1 both", "permessage-deflate;client_no_context_takeover ; server_no_context_takeover", "+"},
	{"7.1.2.1 server_max_window_bits=8", "permessage-deflate; server_max_window_bits=8", "+; server_max_window_bits=8"},
	{"7.1.2.1 server_max_window_bits=10", "permessage-deflate; server_max_window_bits=10", "+; server_max_window_bits=10"},
	{"7.1.2.1 without a value", "permessage-deflate; server_max_window_bits", ""},
	{"7.1.2.1 with a fallback", "permessage-deflate; server_max_window_bits=10, permessage-deflate", "+; server_max_window_bits=10"},
	{"7.1.2.2 client_max_window_bits", "permessage-deflate; client_max_window_bits", "+"},
	{"7.1.2.2 8", "permessage-deflate; client_max_window_bits=8", "+; client_max_window_bits=8"},
	{"7.1.2.2 10", "permessage-deflate; client_max_window_bits=10", "+; client_max_window_bits=10"},
	{"7.1.2.2 15", "permessage-deflate; client_max_window_bits=15", "+; client_max_window_bits=15"},
	{"7.1.2.2 quoted", `permessage-deflate; client_max_window_bits="10"`, "+; client_max_window_bits=10"},
	{"7.1.2.2 7", "permessage-deflate; client_max_window_bits=7", ""},
	{"7.1.2.2 16", "permessage-deflate; client_max_window_bits=16", ""},
	{"7.1.2.2 leading zero", "permessage-deflate; client_max_window_bits=08", ""},
	{"7.1.2.2 negative", "permessage-deflate; client_max_window_bits=-8", ""},
	{"7.1.2.2 no number", "permessage-deflate; client_max_window_bits=x", ""},
	{"7.1.2.2 twice", "permessage-deflate; client_max_window_bits; client_max_window_bits=10", ""},
	{"7.1.2.1 7", "permessage-deflate; server_max_window_bits=7", ""},
	{"7.1.2.1 16, then a fallback", "permessage-deflate; server_max_window_bits=16, permessage-deflate; client_max_window_bits=9", "+; client_max_window_bits=9"},
	{"7.1.2 all", "permessage-deflate; client_max_window_bits=12; server_max_window_bits=9; client_no_context_takeover", "+; server_max_window_bits=9; client_max_window_bits=12"},
}

// takeovers are the parameters against context takeover.
var takeovers = []string{"; server_no_context_takeover", "; client_no_context_takeover"}

func TestOffers(t *testing.T) {
	s := wstest.Start(t, "websocket /on {\ncompression on\n}\nwebsocket /takeover {\ncompression on takeover\n}\nwebsocket /off\nrespond 204")
	s.ShareConnections(t)
	for _, protocol := range wstest.Protocols {
		for _, o := range offers {
			t.Run(protocol+"/"+o.rule, func(t *testing.T) {
				answers := map[string]string{"/on": "", "/takeover": "", "/off": ""}
				if parameters, accepted := strings.CutPrefix(o.answer, "+"); accepted {
					answers["/on"] = "permessage-deflate" + strings.Join(takeovers, "") + parameters
					answers["/takeover"] = "permessage-deflate"
					for _, p := range takeovers {
						if strings.Contains(o.offer, p[2:]) {
							answers["/takeover"] += p
						}
					}
					answers["/takeover"] += parameters
				}
				for path, want := range answers {
					p := s.Dial(t, protocol, path, "Sec-WebSocket-Extensions", o.offer)
					if got := strings.Join(p.Response.Header["Sec-Websocket-Extensions"], "|"); got != want {
						t.Errorf("%s: %s: got %q, want %q", path, o.offer, got, want)
					}
					p.Conn.Close()
				}
			})
		}
	}
}
