package wstest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
)

// Dial opens a socket at path over the named protocol. The header fields are
// those of the request beyond what a handshake needs.
func (s *Server) Dial(t *testing.T, protocol, path string, header ...string) *Peer {
	t.Helper()
	p := s.TryDial(t, protocol, path, header...)
	want := http.StatusOK
	if p.Response.ProtoMajor == 1 {
		want = http.StatusSwitchingProtocols
	}
	if p.Response.StatusCode != want {
		t.Fatalf("%s: status is %d, want %d", protocol, p.Response.StatusCode, want)
	}
	return p
}

// TryDial is Dial that takes any answer. A field with the value "-" is left
// out, one that is given twice is sent twice.
func (s *Server) TryDial(t *testing.T, protocol, path string, header ...string) *Peer {
	t.Helper()
	h := http.Header{"Sec-Websocket-Version": {"13"}}
	if protocol == "http1" || protocol == "tls" {
		upgradeHeader(h)
	}
	given := make(map[string]bool)
	for i := 0; i < len(header); i += 2 {
		name := http.CanonicalHeaderKey(header[i])
		if !given[name] {
			h.Del(name)
		}
		given[name] = true
		if header[i+1] != "-" {
			h.Add(name, header[i+1])
		}
	}
	p, err := s.connect(protocol, path, h)
	if err != nil {
		t.Fatal(err)
	}
	p.T = t
	t.Cleanup(func() { p.Conn.Close() })
	return p
}

// Connect is Dial for clients that a server may refuse, or cut off. Methods of the peer
// that end a test can't be called.
func (s *Server) Connect(protocol, path string) (*Peer, error) {
	h := http.Header{"Sec-Websocket-Version": {"13"}}
	if protocol == "http1" || protocol == "tls" {
		upgradeHeader(h)
	}
	return s.connect(protocol, path, h)
}

// upgradeHeader adds what a handshake on HTTP/1.1 needs.
func upgradeHeader(h http.Header) {
	h["Sec-Websocket-Key"] = []string{"dGhlIHNhbXBsZSBub25jZQ=="}
	h["Connection"] = []string{"Upgrade"}
	h["Upgrade"] = []string{"websocket"}
}

func (s *Server) connect(protocol, path string, h http.Header) (*Peer, error) {
	p := &Peer{Name: protocol}
	var err error
	switch protocol {
	case "http1", "tls":
		err = p.connect1(s, path, h)
	case "http2":
		err = p.connect2(s, path, h)
	case "http3":
		err = p.connect3(s, path, h)
	default:
		err = fmt.Errorf("unknown protocol %q", protocol)
	}
	if err != nil && p.Conn != nil {
		p.Conn.Close()
	}
	return p, err
}

func (p *Peer) connect1(s *Server, path string, h http.Header) error {
	address, secure := s.Addresses()
	if p.Name == "tls" {
		address = secure
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	if p.Name == "tls" {
		conn = tls.Client(conn, InsecureTLS("http/1.1"))
	}
	p.Conn, p.SetReadDeadline = conn, conn.SetReadDeadline
	p.Reader = bufio.NewReader(conn)
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\n", path, address)
	h.Write(&b)
	b.WriteString("\r\n")
	if _, err := conn.Write(b.Bytes()); err != nil {
		return err
	}
	conn.SetReadDeadline(time.Now().Add(Timeout))
	p.Response, err = http.ReadResponse(p.Reader, nil)
	return err
}

// h2Socket is the two halves of an HTTP/2 stream.
type h2Socket struct {
	io.ReadCloser
	w        *io.PipeWriter
	deadline *time.Timer // nil for none
}

func (s *h2Socket) Write(p []byte) (int, error) { return s.w.Write(p) }

// setReadDeadline closes the body in time: that has no deadline, but its end ends a read.
func (s *h2Socket) setReadDeadline(at time.Time) error {
	s.stopDeadline()
	s.deadline = time.AfterFunc(time.Until(at), func() { s.ReadCloser.Close() })
	return nil
}

func (s *h2Socket) stopDeadline() {
	if s.deadline != nil {
		s.deadline.Stop()
	}
}

func (s *h2Socket) Close() error {
	s.stopDeadline()
	s.w.Close()
	return s.ReadCloser.Close()
}

// newHTTP2Transport returns a transport whose connections close soon after their streams.
func newHTTP2Transport() *http2.Transport {
	return &http2.Transport{TLSClientConfig: InsecureTLS("h2"), DisableCompression: true, IdleConnTimeout: 100 * time.Millisecond}
}

func (p *Peer) connect2(s *Server, path string, h http.Header) error {
	r, w := io.Pipe()
	transport := newHTTP2Transport()
	if s.shared != nil {
		transport = s.shared.h2
	}
	_, address := s.Addresses()
	req, err := http.NewRequest(http.MethodConnect, "https://"+address+path, r)
	if err != nil {
		return err
	}
	req.Header = h
	req.Header[":protocol"] = []string{"websocket"}
	if p.Response, err = transport.RoundTrip(req); err != nil {
		w.Close()
		return err
	}
	socket := &h2Socket{ReadCloser: p.Response.Body, w: w}
	p.Conn, p.SetReadDeadline = socket, socket.setReadDeadline
	p.Reader = bufio.NewReader(p.Response.Body)
	return nil
}

// HTTP3Address asks the server where it serves HTTP/3, which Caddy begins to do only
// a moment after it has loaded the config.
func (s *Server) HTTP3Address(t *testing.T) string {
	t.Helper()
	address, err := s.http3Address()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func (s *Server) http3Address() (string, error) {
	_, address := s.Addresses()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: InsecureTLS(), DisableKeepAlives: true}}
	for deadline := time.Now().Add(Timeout); ; time.Sleep(time.Millisecond) {
		res, err := client.Head("https://" + address + "/no-socket")
		if err != nil {
			return "", err
		}
		res.Body.Close()
		advertised := res.Header.Get("Alt-Svc")
		if m := regexp.MustCompile(`h3=":(\d+)"`).FindStringSubmatch(advertised); m != nil {
			return "127.0.0.1:" + m[1], nil
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("no HTTP/3: Alt-Svc is %q", advertised)
		}
	}
}

// h3Socket is an HTTP/3 stream, on a connection of its own if there is one.
type h3Socket struct {
	*http3.RequestStream
	conn      *quic.Conn
	transport *http3.Transport
}

func (s h3Socket) Close() error {
	if s.conn == nil {
		s.CancelRead(quic.StreamErrorCode(http3.ErrCodeNoError))
		return s.RequestStream.Close()
	}
	s.conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
	return s.transport.Close()
}

func (p *Peer) connect3(s *Server, path string, h http.Header) error {
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	var (
		conn      *quic.Conn
		transport *http3.Transport
		client    *http3.ClientConn
		err       error
	)
	if s.shared != nil {
		client = s.shared.h3
	} else {
		address, err := s.http3Address()
		if err != nil {
			return err
		}
		conn, err = quic.DialAddr(ctx, address, InsecureTLS("h3"), &quic.Config{MaxIdleTimeout: time.Minute})
		if err != nil {
			return err
		}
		transport = new(http3.Transport)
		client = transport.NewClientConn(conn)
	}
	stream, err := client.OpenRequestStream(ctx)
	if err != nil {
		if conn != nil {
			_ = conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
		}
		return err
	}
	p.Conn, p.SetReadDeadline = h3Socket{stream, conn, transport}, stream.SetReadDeadline
	p.Reader = bufio.NewReader(stream)
	_, address := s.Addresses()
	req, err := http.NewRequest(http.MethodConnect, "https://"+address+path, nil)
	if err != nil {
		return err
	}
	req.Proto, req.Header = "websocket", h
	if err := stream.SendRequestHeader(req); err != nil {
		return err
	}
	p.Response, err = stream.ReadResponse()
	return err
}

// A shared is one connection for many sockets.
type shared struct {
	h2 *http2.Transport
	h3 *http3.ClientConn
}

// ShareConnections has all HTTP/2 and HTTP/3 sockets to come share their connections.
func (s *Server) ShareConnections(t *testing.T) {
	t.Helper()
	s.shared = &shared{h2: newHTTP2Transport()}
	conn, err := quic.DialAddr(t.Context(), s.HTTP3Address(t), InsecureTLS("h3"), &quic.Config{KeepAlivePeriod: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	transport := new(http3.Transport)
	s.shared.h3 = transport.NewClientConn(conn)
	t.Cleanup(func() {
		_ = conn.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
		_ = transport.Close()
	})
}
