package main

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"

	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
)

// serveRaw sends bytes back as they arrive, on TCP, TLS, HTTP/2 and HTTP/3. No WebSocket
// server can need less time.
func serveRaw(l net.Listener, config *tls.Config) error {
	over := new(rawHTTP)
	if config != nil {
		packets, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		over.h3 = &http3.Server{Handler: over, TLSConfig: config.Clone(), Port: packets.LocalAddr().(*net.UDPAddr).Port}
		go func() { _ = over.h3.Serve(packets) }() // serves until the process is killed
		config.NextProtos = []string{protocolNames[overHTTP2], protocolNames[overTLS]}
		l = tls.NewListener(l, config)
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go over.serve(conn)
	}
}

// rawHTTP serves HTTP/2 and HTTP/3.
type rawHTTP struct {
	h2 http2.Server
	h3 *http3.Server
}

// serve serves one connection of TCP.
func (s *rawHTTP) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	if secure, ok := conn.(*tls.Conn); ok {
		if err := secure.Handshake(); err != nil {
			return
		}
		if secure.ConnectionState().NegotiatedProtocol == protocolNames[overHTTP2] {
			s.h2.ServeConn(conn, &http2.ServeConnOpts{Handler: s})
			return
		}
	}
	sendBack(conn, conn.Write)
}

// ServeHTTP sends the body of an Extended CONNECT back.
func (s *rawHTTP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		_ = s.h3.SetQUICHeaders(w.Header()) // fails where HTTP/3 isn't served yet
		return
	}
	out := http.NewResponseController(w)
	if out.Flush() != nil {
		return
	}
	sendBack(r.Body, func(p []byte) (int, error) {
		n, err := w.Write(p)
		if err == nil {
			err = out.Flush()
		}
		return n, err
	})
}

// sendBack writes what it reads, until either fails.
func sendBack(in io.Reader, write func([]byte) (int, error)) {
	p := make([]byte, 64<<10)
	for {
		n, err := in.Read(p)
		if n > 0 {
			if _, err := write(p[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
