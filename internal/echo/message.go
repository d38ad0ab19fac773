package echo

import (
	"bytes"
	"slices"

	klauspost "github.com/klauspost/compress/flate"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// message receives the rest of a message whose first header was received, and returns all of
// it, uncompressed.
func (c *Conn) message(h ws.Header, n int) ([]byte, error) {
	if h.RSV == ws.RSV1Bit {
		return c.inflatedMessage(h, n)
	}
	var m []byte
	text := ws.NewTextChecker(h.Opcode)
	for {
		if err := c.checkSize(int64(len(m)), h.Length); err != nil {
			return nil, err
		}
		c.In.BeginPayload(h, n)
		for c.In.Remaining > 0 {
			if len(m) == cap(m) {
				// In proportion to what has come, whatever was announced.
				m = slices.Grow(m, int(min(c.In.Remaining, int64(max(512, len(m))))))
			}
			k, err := c.In.ReadPayload(m[len(m):cap(m)])
			if err != nil {
				return nil, err
			}
			m = m[:len(m)+k]
			if text != nil && !text.Write(m[len(m)-k:]) {
				return nil, ws.ErrInvalidUTF8
			}
			c.Received.Add(0, k)
		}
		if h.Fin {
			break
		}
		var err error
		if h, n, err = c.nextData(); err != nil {
			return nil, err
		}
	}
	if text != nil && !text.Complete() {
		return nil, ws.ErrInvalidUTF8
	}
	c.Received.Add(1, 0)
	return m, nil
}

// inflatedMessage is message for a compressed one.
func (c *Conn) inflatedMessage(h ws.Header, n int) ([]byte, error) {
	in := c.beginCompressed(h, n)
	defer in.gathered.Release()
	if in.err = in.gather(); in.err != nil {
		return nil, in.inflate()
	}
	m := &inflated{Conn: c}
	in.to = m
	if err := in.inflate(); err != nil {
		return nil, err
	}
	c.Received.Add(1, 0)
	return m.bytes, nil
}

// An inflated is a message that is collected as it is inflated.
type inflated struct {
	*Conn
	bytes []byte
}

func (m *inflated) take(p []byte, _ bool) error {
	m.Received.Add(0, len(p))
	m.bytes = append(m.bytes, p...)
	return nil
}

func (m *inflated) pause() error { return nil }

// deflateMessage compresses a whole message, as one that follows those in sent, and adds it to
// them.
func (c *Conn) deflateMessage(m outgoing, sent *history) outgoing {
	deflater := c.deflaters().Get().(*klauspost.Writer)
	defer c.deflaters().Put(deflater)
	plain := inflatedBuffers.Get()
	defer inflatedBuffers.Put(plain)
	var out bytes.Buffer // whose writes don't fail, nor do the reads of m
	deflater.ResetDict(&out, c.dictionary(sent, m.size))
	for left := m.size; left > 0; {
		n, _ := m.Read(plain.P[:min(left, len(plain.P))])
		_, _ = deflater.Write(plain.P[:n])
		sent.add(plain.P[:n])
		left -= n
	}
	_ = deflater.Flush()
	return newOutgoing(bytes.TrimSuffix(out.Bytes(), []byte(flushMarker)))
}

// newOutgoing returns a message to be sent.
func newOutgoing(p []byte) outgoing { return outgoing{bytes.NewReader(p), len(p)} }
