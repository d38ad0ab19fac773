package wstest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/quic-go/quicvarint"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// ConnectFields are the header fields of an Extended CONNECT, or of what comes
// close to one.
func ConnectFields(s *Server, method, protocol, path string, more ...string) []string {
	return append([]string{
		":method", method, ":protocol", protocol, ":scheme", "https", ":path", path, ":authority", s.Secure,
		"sec-websocket-version", "13",
	}, more...)
}

// Ask sends a request of the test's own wording over HTTP/2 or HTTP/3, whose
// stream ends with its header or stays open. It returns the status of the answer
// and the body, if the server ends that.
func (s *Server) Ask(t *testing.T, protocol string, ended bool, fields ...string) (status, body string) {
	t.Helper()
	if protocol == "http2" {
		return s.ask2(t, ended, fields...)
	}
	return s.ask3(t, ended, fields...)
}

func (s *Server) ask2(t *testing.T, ended bool, fields ...string) (status, body string) {
	t.Helper()
	framer, conn := DialHTTP2(t, s)
	defer conn.Close()
	var block HeaderBlock
	block.Add(fields...)
	if err := framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: 1, BlockFragment: block.Bytes, EndHeaders: true, EndStream: ended,
	}); err != nil {
		t.Fatal(err)
	}
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			t.Fatalf("%s: %v", fields, err)
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			status = f.PseudoValue("status")
			if status == "200" || f.StreamEnded() {
				return status, ""
			}
		case *http2.DataFrame:
			body += string(f.Data())
			if f.StreamEnded() {
				return status, body
			}
		case *http2.RSTStreamFrame:
			return "reset with " + f.ErrCode.String(), ""
		}
	}
}

func (s *Server) ask3(t *testing.T, ended bool, fields ...string) (status, body string) {
	t.Helper()
	conn, err := quic.DialAddr(t.Context(), s.HTTP3Address(t), InsecureTLS("h3"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
	stream, err := conn.OpenStreamSync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stream.SetDeadline(time.Now().Add(Timeout))
	var block bytes.Buffer
	encoder := qpack.NewEncoder(&block)
	for i := 0; i < len(fields); i += 2 {
		_ = encoder.WriteField(qpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	const headers = 1 // the type of a HEADERS frame (RFC 9114 §7.2.2)
	frame := quicvarint.Append([]byte{headers}, uint64(block.Len()))
	if _, err := stream.Write(append(frame, block.Bytes()...)); err != nil {
		t.Fatal(err)
	}
	if ended {
		stream.Close()
	}
	br := bufio.NewReader(stream)
	for status != "200" {
		kind, err := quicvarint.Read(br)
		if errors.Is(err, io.EOF) {
			break
		}
		size, err2 := quicvarint.Read(br)
		payload := make([]byte, size)
		_, err3 := io.ReadFull(br, payload)
		if err := errors.Join(err, err2, err3); err != nil {
			t.Fatalf("%s: %v", fields, err)
		}
		if kind != headers {
			body += string(payload)
		} else if field, err := qpack.NewDecoder().Decode(payload)(); err == nil { // :status is the first
			status = field.Value
		}
	}
	return status, body
}

// DialHTTP2 opens a connection whose frames the test reads and writes itself.
func DialHTTP2(t *testing.T, s *Server) (*http2.Framer, *tls.Conn) {
	t.Helper()
	conn, err := tls.Dial("tcp", s.Secure, InsecureTLS("h2"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(Timeout))
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return framer, conn
}

// An HeaderBlock is a block of header fields, all of them literal.
type HeaderBlock struct{ Bytes []byte }

func (b *HeaderBlock) Write(p []byte) (int, error) {
	b.Bytes = append(b.Bytes, p...)
	return len(p), nil
}

// Add appends fields, each a name and a value.
func (b *HeaderBlock) Add(fields ...string) {
	encoder := hpack.NewEncoder(b)
	for i := 0; i < len(fields); i += 2 {
		_ = encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
}
