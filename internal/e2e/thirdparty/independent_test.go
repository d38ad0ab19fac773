package thirdparty

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	coder "github.com/coder/websocket"
	"github.com/lxzan/gws"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// chat exchanges messages of many sizes and kinds with an echo.
func chat(t *testing.T, c client) {
	t.Helper()
	for _, size := range []int{0, 1, 125, 126, 127, 4096, 4111, 65535, 65536, 65537, 400_000} {
		for _, kind := range []ws.Opcode{ws.OpText, ws.OpBinary} {
			for _, send := range []func(ws.Opcode, []byte) error{c.send, c.sendParts} {
				want := []byte(wstest.Letters(size))
				sent := make(chan error, 1)
				go func() { sent <- send(kind, bytes.Clone(want)) }()
				gotKind, got, err := c.receive()
				if err != nil || gotKind != kind || !bytes.Equal(got, want) {
					t.Fatalf("sent %d bytes of kind %d: got %d of kind %d, %v", size, kind, len(got), gotKind, err)
				}
				if err := <-sent; err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := c.ping(); err != nil {
		t.Fatalf("ping: %v", err)
	}
}

func TestIndependentClients(t *testing.T) { //nolint:tparallel // other tests run meanwhile
	t.Parallel()
	s := wstest.StartBeside(t, "", "websocket /plain {\nsubprotocols json chat\n}\nwebsocket /deflate {\nsubprotocols json chat\ncompression on\n}")
	for name, dial := range clients {
		for _, url := range []string{"ws://" + s.Plain, "wss://" + s.Secure} {
			for path, compression := range map[string]bool{"/plain": false, "/deflate": true} {
				t.Run(name+"/"+strings.TrimSuffix(url, s.Plain)+path, func(t *testing.T) {
					c := dial(t, url+path, compression)
					if got := c.subprotocol(); got != "json" {
						t.Errorf("subprotocol is %q, want json", got)
					}
					chat(t, c)
					for _, code := range []int{1000, 1001, 1011, 3001, 4999} {
						if err := dial(t, url+path, compression).close(code, "bye"); err != nil {
							t.Errorf("closing with %d: %v", code, err)
						}
					}
				})
			}
		}
	}
}

// An independentServer echoes, but for two messages: when it gets "ping me" it
// sends a Ping and says "pong came" when the Pong is there; when it gets "close
// me" it closes with 4001 and "as you wish".
func independentServers(t *testing.T) map[string]string {
	t.Helper()
	handlers := map[string]http.HandlerFunc{"coder": serveCoder, "gws": serveGws}
	addresses := make(map[string]string)
	for name, handler := range handlers {
		srv := httptest.NewServer(handler)
		t.Cleanup(srv.Close)
		addresses[name] = srv.Listener.Addr().String()
	}
	return addresses
}

func serveCoder(w http.ResponseWriter, r *http.Request) {
	conn, err := coder.Accept(w, r, &coder.AcceptOptions{
		CompressionMode: coder.CompressionContextTakeover, CompressionThreshold: 1, Subprotocols: []string{"json"},
	})
	if err != nil {
		return
	}
	defer conn.CloseNow()
	conn.SetReadLimit(-1)
	ctx := context.WithoutCancel(r.Context())
	for {
		kind, message, err := conn.Read(ctx)
		if err != nil {
			return
		}
		switch string(message) {
		case "ping me":
			go func() {
				if conn.Ping(ctx) == nil {
					_ = conn.Write(ctx, coder.MessageText, []byte("pong came"))
				}
			}()
		case "close me":
			_ = conn.Close(4001, "as you wish")
			return
		default:
			_ = conn.Write(ctx, kind, message)
		}
	}
}

type gwsServer struct{ gws.BuiltinEventHandler }

func (gwsServer) OnPing(c *gws.Conn, payload []byte) { _ = c.WritePong(payload) }
func (gwsServer) OnPong(c *gws.Conn, _ []byte)       { _ = c.WriteString("pong came") }

func (gwsServer) OnMessage(c *gws.Conn, m *gws.Message) {
	defer m.Close()
	switch string(m.Bytes()) {
	case "ping me":
		_ = c.WritePing([]byte("from the application"))
	case "close me":
		_ = c.WriteClose(4001, []byte("as you wish"))
	default:
		_ = c.WriteMessage(m.Opcode, m.Bytes())
	}
}

func serveGws(w http.ResponseWriter, r *http.Request) {
	conn, err := gws.NewUpgrader(new(gwsServer), &gws.ServerOption{
		SubProtocols: []string{"json"},
		PermessageDeflate: gws.PermessageDeflate{
			Enabled: true, Threshold: 1, ServerContextTakeover: true, ClientContextTakeover: true,
			ServerMaxWindowBits: 15, ClientMaxWindowBits: 15,
		},
	}).Upgrade(w, r)
	if err == nil {
		conn.ReadLoop()
	}
}

// chatThrough is chat with an independent server behind a tunnel.
func chatThrough(t *testing.T, s *wstest.Server) {
	for name, dial := range clients {
		for _, url := range []string{"ws://" + s.Plain, "wss://" + s.Secure} {
			for _, compression := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %s compression %t", name, url, compression), func(t *testing.T) {
					chatOnce(t, func() client { return dial(t, url, compression) })
				})
			}
		}
	}
}

func chatOnce(t *testing.T, dial func() client) {
	c := dial()
	if got := c.subprotocol(); got != "json" {
		t.Errorf("subprotocol is %q, want json", got)
	}
	chat(t, c)
	if err := c.send(ws.OpText, []byte("ping me")); err != nil {
		t.Fatal(err)
	}
	if _, got, err := c.receive(); err != nil || string(got) != "pong came" {
		t.Fatalf("got %q, %v, want pong came", got, err)
	}
	if err := c.close(3001, "bye"); err != nil {
		t.Errorf("closing: %v", err)
	}
	c = dial()
	if err := c.send(ws.OpText, []byte("close me")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.receive(); closedWith(err) != "4001 as you wish" {
		t.Errorf("the application closed with %v", err)
	}
}

// closedWith gives the code and the reason in the error of a client.
func closedWith(err error) string {
	switch closed := err.(type) {
	case *gws.CloseError:
		return strconv.Itoa(int(closed.Code)) + " " + string(closed.Reason)
	default:
		if code := coder.CloseStatus(err); code >= 0 && strings.Contains(err.Error(), `reason = "as you wish"`) {
			return strconv.Itoa(int(code)) + " as you wish"
		}
		return ""
	}
}

func TestTunnelToIndependentServers(t *testing.T) { //nolint:tparallel // other tests run meanwhile
	t.Parallel()
	for name, address := range independentServers(t) {
		t.Run(name, func(t *testing.T) {
			chatThrough(t, &wstest.StartBeside(t, "", "websocket passthrough {\nallowed_origins *\nkeepalive 20ms 20s\n}\nreverse_proxy "+address).Server)
		})
	}
}

func TestTunnelToNode(t *testing.T) { //nolint:tparallel // other tests run meanwhile
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), findNode(t), nodePrograms+"/server.js")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	chatThrough(t, &wstest.StartBeside(t, "", "websocket passthrough {\nallowed_origins *\nkeepalive 20ms 20s\n}\nreverse_proxy "+address).Server)
}
