package e2e

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// A deafClient is one of HTTP/2 that doesn't read from its connection at all. What it sends
// still arrives.
type deafClient struct {
	*http2.Framer
	server *wstest.Server
}

// beDeaf returns a client of a site, which serves a large file, too.
func beDeaf(t *testing.T, site string) *deafClient {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "large"), make([]byte, 20<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &wstest.StartBeside(t, "", site+"\nrespond /no-socket 204\nfile_server {\nroot "+dir+"\n}").Server
	_, address := s.Addresses()
	conn, err := tls.Dial("tcp", address, wstest.InsecureTLS("h2"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	c := &deafClient{http2.NewFramer(conn, conn), s}
	c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	c.WriteWindowUpdate(0, 1<<30)
	return c
}

// connect asks for a socket.
func (c *deafClient) connect(stream uint32, path string) {
	c.request(stream, false, wstest.ConnectFields(c.server, "CONNECT", "websocket", path)...)
}

// fill asks for the large file, with which all buffers on the way to the client fill.
func (c *deafClient) fill(stream uint32) {
	_, address := c.server.Addresses()
	c.request(stream, true, ":method", "GET", ":scheme", "https", ":authority", address, ":path", "/large")
}

func (c *deafClient) request(stream uint32, end bool, fields ...string) {
	var block wstest.HeaderBlock
	block.Add(fields...)
	c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes, EndHeaders: true, EndStream: end})
}

// stall has a socket echo until nothing gets through any more, or until it has closed.
func (c *deafClient) stall(stream uint32) {
	c.fill(stream + 2)
	// What is echoed before the file has filled all buffers still gets through.
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := 0; i < 50 && len(c.server.Logs.Entries("socket closed")) == 0; i++ {
		<-tick.C
		c.WriteData(stream, false, wstest.ClientFrame(ws.FinBit|byte(ws.OpBinary), make([]byte, 10_000)))
	}
}

// A socket whose client is deaf ends, though not even the reset of its stream gets through.
func TestDeafHTTP2Connection(t *testing.T) {
	t.Parallel()
	for options, by := range map[string]string{
		"write_timeout 200ms":                   "write_timeout",
		"write_timeout 1m\nmax_lifetime 1500ms": "lifetime",
	} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			c := beDeaf(t, "websocket /ws {\n"+options+"\n}")
			c.connect(1, "/ws")
			c.server.Logs.Await(t, "socket opened", 1)
			c.stall(1)
			if got := c.server.Logs.Await(t, "socket closed", 1)[0]["closed_by"]; got != by {
				t.Errorf("closed by %v, want %v", got, by)
			}
		})
	}
}

// The same for a socket whose answer doesn't get through. The timeout is long enough for all
// handshakes to be there before the first one ends the connection.
func TestDeafHandshakes(t *testing.T) {
	t.Parallel()
	for name, site := range map[string]string{
		"echo":        "websocket /ws {\nwrite_timeout 2s\nkeepalive 100ms 300ms\n}",
		"passthrough": "websocket /ws passthrough {\nallowed_origins *\nwrite_timeout 2s\nkeepalive 100ms 300ms\n}\nreverse_proxy /ws " + wstest.EchoUpstream(t),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := beDeaf(t, "log\n"+site)
			c.fill(1)
			const handshakes = 20 // the first ones may still be answered
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for i := range handshakes {
				<-tick.C
				c.connect(uint32(3+2*i), "/ws")
			}
			c.server.Logs.Await(t, "handled request", handshakes)
		})
	}
}

// The same on HTTP/3, for a client that has no room for the answer.
func TestHandshakeWithoutWindow(t *testing.T) {
	t.Parallel()
	s := &wstest.StartBeside(t, "", "log\nheader /ws X-Large "+wstest.Letters(8000)+
		"\nwebsocket /ws {\nwrite_timeout 200ms\n}\nrespond /no-socket 204").Server
	ctx, cancel := context.WithTimeout(t.Context(), wstest.Timeout)
	defer cancel()
	conn, err := quic.DialAddr(ctx, s.HTTP3Address(t), wstest.InsecureTLS("h3"), &quic.Config{
		InitialStreamReceiveWindow: 1, MaxStreamReceiveWindow: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
	client := new(http3.Transport).NewClientConn(conn)
	<-client.ReceivedSettings()
	stream, err := client.OpenRequestStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, address := s.Addresses()
	req, err := http.NewRequest(http.MethodConnect, "https://"+address+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Proto, req.Header = "websocket", http.Header{"Sec-Websocket-Version": {"13"}}
	if err := stream.SendRequestHeader(req); err != nil {
		t.Fatal(err)
	}
	s.Logs.Await(t, "socket closed", 1)
}

// A Ping for which the client has no window is a write that times out, like any other.
func TestStalledPing(t *testing.T) {
	s := wstest.Start(t, "websocket {\nwrite_timeout 100ms\nkeepalive 50ms 20s\n}")
	const sockets = 20
	for range sockets {
		framer, _ := wstest.DialHTTP2(t, s)
		framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		var block wstest.HeaderBlock
		block.Add(wstest.ConnectFields(s, "CONNECT", "websocket", "/")...)
		framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes, EndHeaders: true})
	}
	for _, e := range s.Logs.Await(t, "socket closed", sockets) {
		if e["closed_by"] != "write_timeout" {
			t.Errorf("closed by %v, want write_timeout", e["closed_by"])
		}
	}
}
