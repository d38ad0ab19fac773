//go:build unix && !aix

package stream

import (
	"bytes"
	"net"
	"slices"
	"testing"
)

// A countedConn counts reads.
type countedConn struct {
	net.Conn
	reads int
}

func (c *countedConn) Read(p []byte) (int, error) {
	c.reads++
	return c.Conn.Read(p)
}

// Where there is a socket to wait for, a message takes one read. Else a byte is read first, but
// for a short message after many short ones.
func TestReadsOfConn(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	type step struct{ size, reads int } // without a socket to wait for
	short, long := step{waitSize - 1, 2}, step{5000, 2}
	steps := append(slices.Repeat([]step{short}, manyShort), step{waitSize - 1, 1}, step{1, 1}, long, short, long)
	for name, socket := range map[string]net.Conn{"socket": conn, "wrapped": struct{ net.Conn }{conn}} {
		counted := &countedConn{Conn: conn}
		c := NewConn(counted, socket, nil, 0)
		for i, step := range steps {
			want := step.reads
			if name == "socket" {
				want = 1
			}
			message := bytes.Repeat([]byte{byte(i)}, step.size)
			if _, err := client.Write(message); err != nil {
				t.Fatal(err)
			}
			counted.reads = 0
			if err := c.Wait(); err != nil {
				t.Fatal(err)
			}
			var got []byte
			for buf := make([]byte, 8<<10); len(got) < step.size; {
				n, err := c.Read(buf)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, buf[:n]...)
			}
			if !bytes.Equal(got, message) || counted.reads != want {
				t.Errorf("%s: %d bytes took %d reads, want %d; the bytes are right: %t", name, step.size, counted.reads, want, bytes.Equal(got, message))
			}
		}
	}
}
