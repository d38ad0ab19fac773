package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// A client is one socket to a server.
type client struct {
	conn io.ReadWriteCloser
	in   *bufio.Reader
	raw  bool // the server is no WebSocket server: it sends back the bytes it receives
	// Large messages are written on another goroutine, since the reply may begin
	// before they have been written.
	write   chan []byte
	written chan error
}

// dialTimeout is how long a connection may take to be established.
const dialTimeout = 20 * time.Second

// handshakeRequest is the request that opens a socket (RFC 6455 §4.1).
const handshakeRequest = "GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nOrigin: http://localhost\r\n" +
	"Connection: Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// acceptKey is the Sec-WebSocket-Accept for the key in handshakeRequest (RFC 6455 §1.3).
const acceptKey = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

func newClient(conn io.ReadWriteCloser, raw bool) *client {
	return &client{conn: conn, in: bufio.NewReaderSize(conn, 4<<10), raw: raw}
}

// startHandshake connects to a server and sends the handshake request of HTTP/1.1.
func (d *dialer) startHandshake() (*client, error) {
	conn, err := net.DialTimeout("tcp", d.addr, dialTimeout)
	if err != nil {
		return nil, err
	}
	if d.config != nil {
		conn = tls.Client(conn, d.config)
	}
	c := newClient(conn, d.raw)
	if _, err := io.WriteString(conn, handshakeRequest); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// finishHandshake receives and checks the response to the handshake request. The handshake
// with a raw server is complete when the request has come back.
func (c *client) finishHandshake() error {
	if c.raw {
		return c.expect([]byte(handshakeRequest))
	}
	status, accepted := "", false
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return err
		}
		line = strings.TrimSuffix(line, "\r\n")
		if status == "" {
			status = line
		}
		if line == "" {
			break
		}
		name, value, _ := strings.Cut(line, ": ")
		accepted = accepted || strings.EqualFold(name, "Sec-WebSocket-Accept") && value == acceptKey
	}
	if !strings.HasPrefix(status, "HTTP/1.1 101 ") || !accepted {
		return fmt.Errorf("handshake refused: %s", status)
	}
	return nil
}

// maxInline is how many bytes are sent without reading meanwhile.
const maxInline = 8 << 10

// prepare prepares the client to exchange the messages of l.
func (c *client) prepare(l *load) {
	c.in = bufio.NewReaderSize(c.conn, 64<<10)
	if len(l.frames) <= maxInline {
		return
	}
	c.write, c.written = make(chan []byte), make(chan error, 1)
	go func() {
		for p := range c.write {
			_, err := c.conn.Write(p)
			c.written <- err
		}
	}()
}

// send sends all messages of l at once.
func (c *client) send(l *load) error {
	if c.write != nil {
		c.write <- l.frames
		return nil
	}
	_, err := c.conn.Write(l.frames)
	return err
}

// receive receives the replies to all messages of l and checks them.
func (c *client) receive(l *load) error {
	if c.raw {
		if err := c.expect(l.frames); err != nil {
			return err
		}
	} else {
		for _, payload := range l.payloads {
			if err := c.receiveMessage(l.opcode, payload); err != nil {
				return err
			}
		}
	}
	if c.write != nil {
		return <-c.written
	}
	return nil
}

// exchange makes all clients send before any of them receives, so that the server has
// enough to do each time it wakes up.
func exchange(clients []*client, l *load) error {
	for _, c := range clients {
		if err := c.send(l); err != nil {
			return err
		}
	}
	for _, c := range clients {
		if err := c.receive(l); err != nil {
			return err
		}
	}
	return nil
}

// receiveMessage receives a message and checks it.
func (c *client) receiveMessage(opcode byte, payload []byte) error {
	for frameOpcode := opcode; ; frameOpcode = 0 {
		head, err := c.in.Peek(2)
		if err != nil {
			return err
		}
		if head[0]&0x7f != frameOpcode {
			return fmt.Errorf("unexpected frame: first byte %#x", head[0])
		}
		last := head[0]&0x80 != 0
		n, size := uint64(head[1]), 2
		switch n {
		case 126:
			size = 4
		case 127:
			size = 10
		}
		if head, err = c.in.Peek(size); err != nil {
			return err
		}
		switch n {
		case 126:
			n = uint64(binary.BigEndian.Uint16(head[2:]))
		case 127:
			n = binary.BigEndian.Uint64(head[2:])
		}
		if _, err := c.in.Discard(size); err != nil {
			return err
		}
		if n > uint64(len(payload)) || last && n < uint64(len(payload)) {
			return errors.New("the reply has another length than the message")
		}
		if err := c.expect(payload[:n]); err != nil {
			return err
		}
		if payload = payload[n:]; last {
			return nil
		}
	}
}

// expect receives bytes and checks that they are those in want.
func (c *client) expect(want []byte) error {
	for len(want) > 0 {
		if _, err := c.in.Peek(1); err != nil {
			return err
		}
		got, _ := c.in.Peek(min(c.in.Buffered(), len(want)))
		if !bytes.Equal(got, want[:len(got)]) {
			return errors.New("the reply differs from the message")
		}
		want = want[len(got):]
		_, _ = c.in.Discard(len(got)) // can't fail: the bytes are buffered
	}
	return nil
}

func (c *client) close() {
	if c.write != nil {
		close(c.write)
	}
	_ = c.conn.Close() // an error doesn't matter any more
}
