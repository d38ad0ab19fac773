package e2e

import (
	"context"
	"net/http"
	"testing"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// RFC 8441 §3 and RFC 9220 §3: the server says that it takes Extended CONNECT.
func TestExtendedConnectIsAnnounced(t *testing.T) {
	s := wstest.Start(t, "websocket\nrespond /no-socket 204")
	framer, _ := wstest.DialHTTP2(t, s)
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if settings, ok := f.(*http2.SettingsFrame); ok && !settings.IsAck() {
			if v, ok := settings.Value(http2.SettingEnableConnectProtocol); !ok || v != 1 {
				t.Errorf("http2: SETTINGS_ENABLE_CONNECT_PROTOCOL is %d, %t", v, ok)
			}
			break
		}
	}

	ctx, cancel := context.WithTimeout(t.Context(), wstest.Timeout)
	defer cancel()
	conn, err := quic.DialAddr(ctx, s.HTTP3Address(t), wstest.InsecureTLS("h3"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
	client := new(http3.Transport).NewClientConn(conn)
	select {
	case <-client.ReceivedSettings():
	case <-ctx.Done():
		t.Fatal("http3: no settings")
	}
	if !client.Settings().EnableExtendedConnect {
		t.Error("http3: SETTINGS_ENABLE_CONNECT_PROTOCOL is not 1")
	}
}

// RFC 8441 §5: after the Close the server's side of the stream ends with
// END_STREAM, as TCP does with FIN, and no error resets it.
func TestHTTP2StreamEnds(t *testing.T) {
	s := wstest.Start(t, "websocket")
	for _, c := range []struct{ sent, want string }{
		{`T:hello X:1000,bye`, `X:1000,bye`},
		{`T:hello #83`, `X:1002~opcode`},
	} {
		framer, _ := wstest.DialHTTP2(t, s)
		var block wstest.HeaderBlock
		block.Add(":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":path", "/", ":authority", s.Secure,
			"sec-websocket-version", "13")
		if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes, EndHeaders: true}); err != nil {
			t.Fatal(err)
		}
		if err := framer.WriteData(1, false, wstest.ClientBytes(c.sent)); err != nil {
			t.Fatal(err)
		}
		var received []byte
		for ended := false; !ended; {
			f, err := framer.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			switch f := f.(type) {
			case *http2.MetaHeadersFrame:
				if got := f.PseudoValue("status"); got != "200" {
					t.Fatalf("status is %s", got)
				}
			case *http2.DataFrame:
				received = append(received, f.Data()...)
				ended = f.StreamEnded()
			case *http2.RSTStreamFrame:
				t.Fatalf("%s: reset with %v before the end", c.sent, f.ErrCode)
			}
		}
		closed := received[2+len("hello"):]
		if len(closed) < 4 || !wstest.Matches(c.want, closed[0], closed[2:]) {
			t.Errorf("%s: got %q, want %s", c.sent, received, c.want)
		}
	}
}

// RFC 8441 §5: the headers of RFC 6455 that make no sense there are neither
// needed nor sent, and a key that a client sends all the same has no effect.
func TestExtendedConnectHeaders(t *testing.T) {
	s := wstest.Start(t, "websocket\nrespond /no-socket 204")
	for _, protocol := range []string{"http2", "http3"} {
		for _, key := range []string{"-", "dGhlIHNhbXBsZSBub25jZQ==", "no key"} {
			p := s.Dial(t, protocol, "/", "Sec-WebSocket-Key", key)
			for _, name := range []string{"Sec-Websocket-Accept", "Connection", "Upgrade", "Content-Length", "Transfer-Encoding"} {
				if got, ok := p.Response.Header[name]; ok {
					t.Errorf("%s: %s is %q", protocol, name, got)
				}
			}
			p.Echo(ws.OpText, "hello")
			p.CloseNormally()
		}
		if p := s.TryDial(t, protocol, "/", "Sec-WebSocket-Version", "12"); p.Response.StatusCode != http.StatusUpgradeRequired {
			t.Errorf("%s: version 12 gets %d", protocol, p.Response.StatusCode)
		}
	}
}
