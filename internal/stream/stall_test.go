package stream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

const testTimeout = 10 * time.Second

// A write whose peer takes a part and then nothing more fails when nothing has moved
// for the timeout, or a quarter of that later at most.
func TestStalledWrite(t *testing.T) {
	certificate := newCertificate(t)
	for name, open := range map[string]func(server, client net.Conn) (Stream, io.Reader){
		"TCP": func(server, client net.Conn) (Stream, io.Reader) {
			return NewConn(server, server, nil, testTimeout), client
		},
		"TLS": func(server, client net.Conn) (Stream, io.Reader) {
			server = tls.Server(server, &tls.Config{Certificates: []tls.Certificate{certificate}})
			return NewConn(server, server, nil, testTimeout), tls.Client(client, &tls.Config{InsecureSkipVerify: true})
		},
		"HTTP body": func(server, client net.Conn) (Stream, io.Reader) {
			r := httptest.NewRequest(http.MethodConnect, "/", nil)
			return NewBody(&pipeWriter{Conn: server}, r, r.Body, testTimeout), client
		},
	} {
		for _, pause := range []time.Duration{0, time.Second, 5 * time.Second, 9 * time.Second, 9900 * time.Millisecond} {
			t.Run(name+" "+pause.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { stall(t, pause, open) })
			})
		}
	}
}

// stall has a client take a record, make a pause, take another one and stop.
func stall(t *testing.T, pause time.Duration, open func(server, client net.Conn) (Stream, io.Reader)) {
	server, client := net.Pipe()
	defer server.Close()
	defer client.Close()
	s, r := open(server, client)
	moved := make(chan time.Time, 1)
	go func() {
		for i := range 2 {
			time.Sleep(time.Duration(i) * pause)
			if _, err := io.ReadFull(r, make([]byte, maxTLSRecord)); err != nil {
				t.Errorf("the client, after %v: %v", pause, err)
			}
		}
		moved <- time.Now()
	}()
	_, err := s.Write(make([]byte, 4*maxTLSRecord))
	waited := time.Since(<-moved)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the write ended with %v", err)
	}
	if waited < testTimeout || waited > testTimeout*5/4 {
		t.Errorf("the write failed after %v without progress, want %v or a quarter more", waited, testTimeout)
	}
	_ = s.Close()
}

// Small writes in quick succession share one deadline.
func TestDeadlinesAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		defer client.Close()
		go func() { _, _ = io.Copy(io.Discard, client) }()
		counted := &deadlineConn{Conn: server}
		s := NewConn(counted, counted, nil, testTimeout)
		defer s.Close()
		for range 1000 {
			if _, err := s.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		if counted.set > 2 {
			t.Errorf("%d deadlines were set in a second", counted.set)
		}
	})
}

// A deadlineConn counts the write deadlines that are set.
type deadlineConn struct {
	net.Conn
	set int
}

func (c *deadlineConn) SetWriteDeadline(at time.Time) error {
	c.set++
	return c.Conn.SetWriteDeadline(at)
}

// A pipeWriter is a response that goes to a pipe.
type pipeWriter struct {
	net.Conn
	http.ResponseWriter
}

func (w *pipeWriter) Header() http.Header         { return nil }
func (w *pipeWriter) Write(p []byte) (int, error) { return w.Conn.Write(p) }
func (w *pipeWriter) WriteHeader(int)             {}
func (w *pipeWriter) Flush()                      {}

func newCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}
}
