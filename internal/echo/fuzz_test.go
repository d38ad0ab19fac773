package echo

import (
	"bufio"
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest/conformance"
)

// stricter are the reasons for which this module ends a socket that gorilla
// goes on with.
var stricter = map[string]string{
	"reserved bit set":                "with permessage-deflate gorilla takes RSV1 on any frame (RFC 7692 §6)",
	"length not in its shortest form": "gorilla takes any form (RFC 6455 §5.2)",
	"close frame with half a code":    "gorilla takes it for an empty one (RFC 6455 §5.5.1)",
	"text that is not UTF-8":          "gorilla leaves that to the application (RFC 6455 §8.1)",
	"corrupt compressed data":         "gorilla ends a message at a block marked as the last (RFC 7692 §7.2.2)",
}

// A reading is what an endpoint made of a stream of frames.
type reading struct {
	messages []string // the opcode and the payload of each
	pings    []string
	err      error // why it stopped
}

// FuzzGorilla holds what is read from a client's bytes against what gorilla's
// parser, which has nothing in common with this module's, reads from them.
func FuzzGorilla(f *testing.F) {
	for _, seed := range conformance.Seeds() {
		f.Add(seed, []byte{0}, false)
		f.Add(seed, []byte{250, 3}, true)
	}
	f.Fuzz(func(t *testing.T, stream, sizes []byte, deflate bool) {
		ours, theirs := readOurs(t, stream, sizes, deflate), readGorilla(t, stream, deflate)
		var broken *ws.CloseError
		strict := errors.As(ours.err, &broken) && stricter[broken.Reason] != ""
		if deflate && len(theirs.messages) == len(ours.messages)+1 {
			// A block that is marked as the last, in a message that never ended.
			theirs.messages = theirs.messages[:len(ours.messages)]
		}
		if len(ours.messages) != len(theirs.messages) || !slices.Equal(ours.pings, theirs.pings) {
			// A Ping behind corrupt data may be answered while the data gather.
			pings := !deflate && len(ours.pings) > len(theirs.pings)
			if !strict || len(ours.messages) > len(theirs.messages) || pings {
				t.Fatalf("%x: read %q and %q, %v, but gorilla %q and %q, %v", stream,
					ours.messages, ours.pings, ours.err, theirs.messages, theirs.pings, theirs.err)
			}
		}
		for i, message := range ours.messages {
			// What follows a block that is marked as the last gorilla leaves out.
			if message != theirs.messages[i] && (!deflate || !strings.HasPrefix(message, theirs.messages[i])) {
				t.Fatalf("%x: message %d is %q, but gorilla's is %q", stream, i, message, theirs.messages[i])
			}
		}
		a, b := verdictOf(ours.err), verdictOf(theirs.err)
		late := a == "broken" && b == "end"         // gorilla wants a whole header before it judges
		newer := a == "close 1014" && b == "broken" // it was made before that code
		var corrupt flate.CorruptInputError
		early := a == "end" && errors.As(theirs.err, &corrupt) // gorilla's inflater needs fewer bits to judge
		if a != b && !strict && !late && !newer && !early {
			t.Fatalf("%x: ends with %v, but for gorilla with %v", stream, ours.err, theirs.err)
		}
	})
}

// verdictOf puts the errors of both parsers into the same words.
func verdictOf(err error) string {
	var (
		closed *ws.PeerCloseError
		theirs *websocket.CloseError
		code   int
	)
	switch {
	case errors.As(err, &closed):
		code = closed.Code
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "end"
	case errors.As(err, &theirs) && theirs.Code == websocket.CloseAbnormalClosure:
		return "end"
	case errors.As(err, &theirs):
		code = theirs.Code
	default:
		return "broken"
	}
	return "close " + strconv.Itoa(code)
}

// readOurs reads a stream that comes in pieces of the given sizes.
func readOurs(t *testing.T, stream, sizes []byte, deflate bool) reading {
	t.Helper()
	in := &wstest.Pieces{In: stream, Sizes: sizes}
	return readingOf(t, newConn(in, in, deflate), in)
}

// readingOf reads a stream with a Conn of it.
func readingOf(t *testing.T, c *Conn, in *wstest.Pieces) reading {
	t.Helper()
	r := reading{err: c.Messages()}
	_ = c.Out.Flush()
	c.In.Release()
	for _, reply := range wstest.Replies(t, in.Out.Bytes()) {
		if ping, ok := strings.CutPrefix(reply, "pong "); ok {
			r.pings = append(r.pings, ping)
		} else {
			r.messages = append(r.messages, reply)
		}
	}
	return r
}

// readGorilla reads a stream as gorilla's server does.
func readGorilla(t *testing.T, stream []byte, deflate bool) (r reading) {
	t.Helper()
	header := http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}
	if deflate {
		header.Set("Sec-WebSocket-Extensions", ws.DeflateExtension)
	}
	request := &http.Request{Method: http.MethodGet, Header: header}
	w := &gorillaConn{Reader: bytes.NewReader(stream)}
	conn, err := (&websocket.Upgrader{EnableCompression: deflate}).Upgrade(w, request, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetPingHandler(func(payload string) error {
		r.pings = append(r.pings, payload)
		return nil
	})
	for {
		kind, message, err := conn.ReadMessage()
		if err != nil {
			r.err = err
			return r
		}
		r.messages = append(r.messages, strconv.Itoa(kind)+" "+string(message))
	}
}

// A gorillaConn is a response writer, and the connection under it.
type gorillaConn struct {
	http.ResponseWriter
	net.Conn
	*bytes.Reader
}

func (c *gorillaConn) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return c, bufio.NewReadWriter(bufio.NewReader(strings.NewReader("")), bufio.NewWriter(c)), nil
}

func (c *gorillaConn) Read(p []byte) (int, error)       { return c.Reader.Read(p) }
func (c *gorillaConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c *gorillaConn) Close() error                     { return nil }
func (c *gorillaConn) SetDeadline(time.Time) error      { return nil }
func (c *gorillaConn) SetReadDeadline(time.Time) error  { return nil }
func (c *gorillaConn) SetWriteDeadline(time.Time) error { return nil }
