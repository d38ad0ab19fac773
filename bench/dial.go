package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
)

// A transport is what carries sockets.
type transport string

const (
	overTCP   transport = "TCP"    // HTTP/1.1
	overTLS   transport = "TLS"    // HTTP/1.1
	overHTTP2 transport = "HTTP/2" // RFC 8441
	overHTTP3 transport = "HTTP/3" // RFC 9220
)

// protocolNames are the names of the transports that use TLS in its negotiation of a
// protocol (RFC 7301).
var protocolNames = map[transport]string{overTLS: "http/1.1", overHTTP2: "h2", overHTTP3: "h3"}

// A dialer opens sockets to a server.
type dialer struct {
	addr   string
	over   transport
	config *tls.Config // nil with overTCP
	raw    bool        // the server is no WebSocket server: it sends back the bytes it receives
	share  bool        // on HTTP/2 and HTTP/3, sockets share connections
	// muxes are the connections that sockets have shared, the last of which takes more.
	muxes []mux
	taken int // how many sockets that one has
}

// perConnection is how many sockets share a connection. Servers of HTTP/3 in Go allow 100
// requests, those of HTTP/2 allow 250.
const perConnection = 100

// A mux is a connection that carries many sockets: an *http2.ClientConn or an
// *http3.ClientConn.
type mux interface {
	RoundTrip(*http.Request) (*http.Response, error)
}

func closeMux(m mux) error {
	switch m := m.(type) {
	case *http2.ClientConn:
		return m.Close()
	case *http3.ClientConn:
		return m.CloseWithError(0, "")
	}
	return nil
}

// newDialer returns a dialer for a server, whose sockets share connections if asked to.
func newDialer(addr string, over transport, trusting *tls.Config, raw, share bool) (*dialer, error) {
	d := &dialer{addr: addr, over: over, raw: raw, share: share}
	if over == overTCP {
		return d, nil
	}
	d.config = trusting.Clone()
	d.config.NextProtos = []string{protocolNames[over]}
	var err error
	if over == overHTTP3 {
		d.addr, err = d.http3Addr()
	}
	return d, err
}

// http3Addr asks the server where it serves HTTP/3 (RFC 7838 §3). Caddy begins to do that
// only when it serves everything else.
func (d *dialer) http3Addr() (string, error) {
	config := d.config.Clone()
	config.NextProtos = []string{protocolNames[overHTTP2]}
	asking := &http2.Transport{TLSClientConfig: config}
	defer asking.CloseIdleConnections()
	client := &http.Client{Transport: asking}
	for deadline := time.Now().Add(dialTimeout); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		res, err := client.Head("https://" + d.addr + "/")
		if err != nil {
			return "", err
		}
		_ = res.Body.Close() // it is empty
		if m := regexp.MustCompile(`h3=":(\d+)"`).FindStringSubmatch(res.Header.Get("Alt-Svc")); m != nil {
			return "127.0.0.1:" + m[1], nil
		}
	}
	return "", fmt.Errorf("%s serves no HTTP/3", d.addr)
}

// dial opens a socket.
func (d *dialer) dial() (*client, error) {
	switch d.over {
	case overHTTP2:
		return d.connectHTTP2()
	case overHTTP3:
		return d.connectHTTP3()
	default:
		return d.connectHTTP1()
	}
}

func (d *dialer) connectHTTP1() (*client, error) {
	c, err := d.startHandshake()
	if err != nil {
		return nil, err
	}
	if err := c.finishHandshake(); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// close closes the connections that sockets have shared.
func (d *dialer) close() {
	for _, m := range d.muxes {
		_ = closeMux(m)
	}
}

// mux returns a connection for the next socket.
func (d *dialer) mux() (mux, error) {
	if d.share && len(d.muxes) > 0 && d.taken < perConnection {
		d.taken++
		return d.muxes[len(d.muxes)-1], nil
	}
	connect := d.dialHTTP2
	if d.over == overHTTP3 {
		connect = d.dialHTTP3
	}
	m, err := connect()
	if d.share && err == nil {
		d.muxes, d.taken = append(d.muxes, m), 1
	}
	return m, err
}

// extendedConnect returns the request that opens a socket on HTTP/2 or HTTP/3.
func (d *dialer) extendedConnect(body io.Reader) (*http.Request, error) {
	r, err := http.NewRequest(http.MethodConnect, "https://"+d.addr+"/", body)
	if err != nil {
		return nil, err
	}
	r.Host = "localhost"
	r.Header.Set("User-Agent", "bench")
	r.Header.Set("Origin", "http://localhost")
	r.Header.Set("Sec-WebSocket-Version", "13")
	return r, nil
}

func (d *dialer) dialHTTP2() (mux, error) {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: dialTimeout}, "tcp", d.addr, d.config)
	if err != nil {
		return nil, err
	}
	return new(http2.Transport).NewClientConn(conn)
}

func (d *dialer) connectHTTP2() (*client, error) {
	m, err := d.mux()
	if err != nil {
		return nil, err
	}
	body, request := io.Pipe()
	r, err := d.extendedConnect(body)
	if err != nil {
		return nil, err
	}
	r.Header[":protocol"] = []string{"websocket"}
	res, err := m.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	return d.accepted(&http2Socket{request, res.Body}, m, res)
}

// An http2Socket is an HTTP/2 stream.
type http2Socket struct {
	*io.PipeWriter
	io.ReadCloser
}

func (s *http2Socket) Close() error { return errors.Join(s.PipeWriter.Close(), s.ReadCloser.Close()) }

func (d *dialer) dialHTTP3() (mux, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	// The windows are as large as those of the HTTP/2 client, so that it is the server's
	// turn always.
	conn, err := quic.DialAddr(ctx, d.addr, d.config, &quic.Config{
		InitialStreamReceiveWindow: 4 << 20, InitialConnectionReceiveWindow: 64 << 20,
		MaxStreamReceiveWindow: 4 << 20, MaxConnectionReceiveWindow: 64 << 20,
		MaxIdleTimeout: time.Minute,
	})
	if err != nil {
		return nil, err
	}
	return new(http3.Transport).NewClientConn(conn), nil
}

func (d *dialer) connectHTTP3() (*client, error) {
	m, err := d.mux()
	if err != nil {
		return nil, err
	}
	stream, err := m.(*http3.ClientConn).OpenRequestStream(context.Background())
	if err != nil {
		return nil, err
	}
	r, err := d.extendedConnect(nil)
	if err != nil {
		return nil, err
	}
	r.Proto = "websocket"
	if err := stream.SendRequestHeader(r); err != nil {
		return nil, err
	}
	res, err := stream.ReadResponse()
	if err != nil {
		return nil, err
	}
	return d.accepted(http3Socket{stream}, m, res)
}

// An http3Socket is an HTTP/3 stream.
type http3Socket struct{ *http3.RequestStream }

func (s http3Socket) Close() error {
	s.CancelRead(quic.StreamErrorCode(http3.ErrCodeNoError))
	return s.RequestStream.Close()
}

// accepted returns the client of a stream of m that the server has answered.
func (d *dialer) accepted(stream io.ReadWriteCloser, m mux, res *http.Response) (*client, error) {
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("handshake refused: %s", res.Status)
	}
	if !d.share {
		stream = alone{stream, m}
	}
	return newClient(stream, d.raw), nil
}

// alone is a socket that has a connection of its own.
type alone struct {
	io.ReadWriteCloser
	mux mux
}

func (s alone) Close() error { return closeMux(s.mux) }
