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
	conn net.Conn
	in   *bufio.Reader
	raw  bool // bytes come back as they were sent
	// large messages are written by a goroutine of their own, since the reply may
	// begin before they are out.
	write   chan []byte
	written chan error
}

// patience is how long a server may take for an answer.
const patience = 20 * time.Second

const request = "GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nOrigin: http://localhost\r\n" +
	"Connection: Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// accept is the answer to the key in request (RFC 6455 §1.3).
const accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

// dial opens a socket: for a server that knows no WebSocket, a connection over
// which the request came back.
func dial(addr string, config *tls.Config, raw bool) (*client, error) {
	c, err := knock(addr, config, raw)
	if err != nil {
		return nil, err
	}
	if err := c.enter(); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// knock sends the request for a socket.
func knock(addr string, config *tls.Config, raw bool) (*client, error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	if config != nil {
		conn = tls.Client(conn, config)
	}
	c := &client{conn: conn, in: bufio.NewReaderSize(conn, 4<<10), raw: raw}
	if _, err := io.WriteString(conn, request); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// enter receives the answer to the request.
func (c *client) enter() error {
	if c.raw {
		return c.expect([]byte(request))
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
		accepted = accepted || strings.EqualFold(name, "Sec-WebSocket-Accept") && value == accept
	}
	if !strings.HasPrefix(status, "HTTP/1.1 101 ") || !accepted {
		return fmt.Errorf("handshake refused: %s", status)
	}
	return nil
}

// maxInline is how much is sent without reading meanwhile.
const maxInline = 8 << 10

// prepare makes the client ready to exchange messages of l.
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

// receive receives them all and checks them.
func (c *client) receive(l *load) error {
	if c.raw {
		if err := c.expect(l.frames); err != nil {
			return err
		}
	} else {
		for _, payload := range l.payloads {
			if err := c.message(l.opcode, payload); err != nil {
				return err
			}
		}
	}
	if c.write != nil {
		return <-c.written
	}
	return nil
}

// exchange has all clients send and then all receive, so that the server has
// enough to do for once that it was woken.
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

// message receives a message and checks it.
func (c *client) message(opcode byte, payload []byte) error {
	for first := opcode; ; first = 0 {
		head, err := c.in.Peek(2)
		if err != nil {
			return err
		}
		if head[0]&0x7f != first {
			return fmt.Errorf("frame begins with %#x", head[0])
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
			return errors.New("message of another length")
		}
		if err := c.expect(payload[:n]); err != nil {
			return err
		}
		if payload = payload[n:]; last {
			return nil
		}
	}
}

// expect receives exactly what is given.
func (c *client) expect(want []byte) error {
	for len(want) > 0 {
		if _, err := c.in.Peek(1); err != nil {
			return err
		}
		got, _ := c.in.Peek(min(c.in.Buffered(), len(want)))
		if !bytes.Equal(got, want[:len(got)]) {
			return errors.New("other bytes came back")
		}
		want = want[len(got):]
		_, _ = c.in.Discard(len(got)) // it is there
	}
	return nil
}

func (c *client) close() {
	if c.write != nil {
		close(c.write)
	}
	_ = c.conn.Close() // it is only done with
}
