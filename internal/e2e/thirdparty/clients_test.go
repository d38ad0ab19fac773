package thirdparty

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	coder "github.com/coder/websocket"
	"github.com/lxzan/gws"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// A client is a WebSocket library that others use.
type client interface {
	send(kind ws.Opcode, message []byte) error
	// sendParts sends a message in fragments.
	sendParts(kind ws.Opcode, message []byte) error
	receive() (kind ws.Opcode, message []byte, err error)
	// ping sends a Ping and waits for its Pong.
	ping() error
	// close closes the socket and makes sure that the server answers in kind.
	close(code int, reason string) error
	subprotocol() string
}

// clients open sockets, each with the library that it is named for.
var clients = map[string]func(t *testing.T, url string, compression bool) client{
	"coder": dialCoder,
	"gws":   dialGws,
}

type coderClient struct {
	*coder.Conn
	ctx context.Context
}

func dialCoder(t *testing.T, url string, compression bool) client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wstest.Timeout)
	t.Cleanup(cancel)
	c := &coderClient{ctx: ctx}
	options := &coder.DialOptions{
		HTTPClient:   &http.Client{Transport: &http.Transport{TLSClientConfig: wstest.InsecureTLS("http/1.1")}},
		Subprotocols: []string{"chat", "json"},
	}
	if compression {
		options.CompressionMode, options.CompressionThreshold = coder.CompressionContextTakeover, 1
	}
	conn, res, err := coder.Dial(ctx, url, options)
	if err != nil {
		t.Fatal(err)
	}
	if negotiated := res.Header.Get("Sec-WebSocket-Extensions") != ""; negotiated != compression {
		t.Fatalf("compression negotiated is %t, want %t", negotiated, compression)
	}
	t.Cleanup(func() { conn.CloseNow() })
	conn.SetReadLimit(-1)
	c.Conn = conn
	return c
}

func (c *coderClient) send(kind ws.Opcode, message []byte) error {
	return c.Write(c.ctx, coder.MessageType(kind), message)
}

func (c *coderClient) sendParts(kind ws.Opcode, message []byte) error {
	w, err := c.Writer(c.ctx, coder.MessageType(kind))
	if err != nil {
		return err
	}
	for part := range len(message)/1000 + 1 {
		if _, err := w.Write(message[part*1000 : min(len(message), part*1000+1000)]); err != nil {
			return err
		}
	}
	return w.Close()
}

func (c *coderClient) receive() (ws.Opcode, []byte, error) {
	kind, message, err := c.Read(c.ctx)
	return ws.Opcode(kind), message, err
}

// ping can't wait without somebody who reads.
func (c *coderClient) ping() error {
	done := make(chan error, 1)
	go func() {
		err := c.Ping(c.ctx)
		if err == nil {
			err = c.send(ws.OpText, []byte("pinged"))
		}
		done <- err
	}()
	_, message, err := c.receive()
	if err == nil && string(message) != "pinged" {
		err = fmt.Errorf("got %q", message)
	}
	if err == nil {
		err = <-done
	}
	return err
}

func (c *coderClient) close(code int, reason string) error {
	return c.Close(coder.StatusCode(code), reason)
}

func (c *coderClient) subprotocol() string { return c.Subprotocol() }

type gwsClient struct {
	gws.BuiltinEventHandler
	*gws.Conn
	messages chan gwsMessage
	pongs    chan string
	closed   chan error
}

type gwsMessage struct {
	kind ws.Opcode
	data []byte
}

// OnPing answers as it must: gws's own answer is empty.
func (c *gwsClient) OnPing(_ *gws.Conn, payload []byte) { _ = c.WritePong(payload) }

func (c *gwsClient) OnPong(_ *gws.Conn, payload []byte) { c.pongs <- string(payload) }
func (c *gwsClient) OnClose(_ *gws.Conn, err error)     { c.closed <- err }

func (c *gwsClient) OnMessage(_ *gws.Conn, m *gws.Message) {
	defer m.Close()
	c.messages <- gwsMessage{ws.Opcode(m.Opcode), bytes.Clone(m.Bytes())}
}

func dialGws(t *testing.T, url string, compression bool) client {
	t.Helper()
	c := &gwsClient{messages: make(chan gwsMessage, 10), pongs: make(chan string, 10), closed: make(chan error, 1)}
	conn, res, err := gws.NewClient(c, &gws.ClientOption{
		Addr: url, TlsConfig: wstest.InsecureTLS("http/1.1"), CheckUtf8Enabled: true,
		RequestHeader: http.Header{"Sec-Websocket-Protocol": {"chat, json"}},
		PermessageDeflate: gws.PermessageDeflate{
			Enabled: compression, Threshold: 1, ServerContextTakeover: true, // not the client: its window takes in the Pongs that it sends
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if negotiated := res.Header.Get("Sec-WebSocket-Extensions") != ""; negotiated != compression {
		t.Fatalf("compression negotiated is %t, want %t", negotiated, compression)
	}
	c.Conn = conn
	done := make(chan struct{})
	go func() {
		conn.ReadLoop()
		close(done)
	}()
	t.Cleanup(func() {
		conn.NetConn().Close()
		<-done
	})
	return c
}

func (c *gwsClient) send(kind ws.Opcode, message []byte) error {
	return c.WriteMessage(gws.Opcode(kind), message)
}

func (c *gwsClient) sendParts(kind ws.Opcode, message []byte) error {
	return c.WriteFile(gws.Opcode(kind), bytes.NewReader(message))
}

func (c *gwsClient) receive() (ws.Opcode, []byte, error) {
	select {
	case m := <-c.messages:
		return m.kind, m.data, nil
	case err := <-c.closed:
		c.closed <- err
		return 0, nil, err
	case <-time.After(wstest.Timeout):
		return 0, nil, io.ErrNoProgress
	}
}

func (c *gwsClient) ping() error {
	if err := c.WritePing([]byte("are you there")); err != nil {
		return err
	}
	select {
	case payload := <-c.pongs:
		if payload != "are you there" {
			return fmt.Errorf("pong %q", payload)
		}
		return nil
	case <-time.After(wstest.Timeout):
		return io.ErrNoProgress
	}
}

// close sends the frame by itself: gws's own way cuts the line after it.
func (c *gwsClient) close(code int, reason string) error {
	if err := c.WriteMessage(gws.OpcodeCloseConnection, ws.ClosePayload(code, reason)); err != nil {
		return err
	}
	select {
	case err := <-c.closed:
		if closed, ok := err.(*gws.CloseError); ok && int(closed.Code) == code {
			return nil
		}
		return fmt.Errorf("closed with %w", err)
	case <-time.After(wstest.Timeout):
		return io.ErrNoProgress
	}
}

func (c *gwsClient) subprotocol() string { return c.SubProtocol() }
