package echo

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/controls"
	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest/conformance"
)

// A performance is a socket with a script, and its client. It is for a synctest bubble.
type performance struct {
	*wstest.Peer
	server  net.Conn
	conn    *Conn
	ended   chan struct{}
	ends    int   // how often the script has ended the socket
	err     error // what the messages have ended with
	failed  error // what a write has ended with
	ignored bool  // the client's Close frame is not to be answered
	over    chan struct{}
	began   time.Time
}

// pipeInput is an Input without a way to wait.
type pipeInput struct{ io.Reader }

func (pipeInput) Wait() error { return nil }

// perform starts a script. The peer reads only when told to, and writes block until they are
// read.
func perform(t *testing.T, query string, deflate *ws.Deflate, hello string) *performance {
	t.Helper()
	asked, err := controls.Parse(query)
	if err != nil {
		t.Fatal(err)
	}
	client, server := net.Pipe()
	p := &performance{Peer: wstest.NewPeer(t, query, client), server: server, ended: make(chan struct{}), over: make(chan struct{}), began: time.Now()}
	p.conn = newConn(pipeInput{server}, server, deflate != nil)
	p.conn.Deflate = deflate
	p.conn.Script = &Script{
		Controls: asked,
		Ended:    p.ended,
		Go:       func(f func()) { go f() },
		Ping:     func() { p.conn.Out.Post(ws.OpPing, []byte("script's")) },
		End: func() {
			p.ends++
			close(p.ended)
			if asked.Close {
				p.conn.Out.Post(ws.OpClose, ws.ClosePayload(asked.Code, asked.Reason))
			} else {
				server.Close()
			}
		},
		Ignore: func() { p.ignored = true },
		Failed: func(err error) {
			p.failed = err
			server.Close()
		},
	}
	if hello != "" {
		p.conn.Script.Hello = []byte(hello)
	}
	go func() {
		defer close(p.over)
		p.err = p.conn.Messages()
	}()
	t.Cleanup(func() {
		client.Close()
		server.Close()
		<-p.over
	})
	return p
}

// expectAt receives what is written down, so long after the start.
func (p *performance) expectAt(at time.Duration, words string) {
	p.T.Helper()
	for word := range strings.FieldsSeq(words) {
		f := p.ReadFrame()
		if !wstest.Matches(word, f.First, f.Payload) {
			p.T.Fatalf("%s: got frame %#x %q, want %s", p.Name, f.First, f.Payload, word)
		}
	}
	if took := time.Since(p.began); took != at {
		p.T.Errorf("%s: %s came after %s, want %s", p.Name, words, took, at)
	}
}

// close has the client close and the messages end with that.
func (p *performance) close() {
	p.T.Helper()
	p.SendClose(1000, "")
	<-p.over
	if _, ok := errors.AsType[*ws.PeerCloseError](p.err); !ok {
		p.T.Errorf("%s: ended with %v", p.Name, p.err)
	}
}

func (p *performance) send(words string) {
	p.T.Helper()
	p.WriteRaw(wstest.ClientBytes(words))
}

// sendAside sends meanwhile, unless nobody receives any more.
func (p *performance) sendAside(words string) {
	go func() { _, _ = p.Conn.Write(wstest.ClientBytes(words)) }()
}

// A countingReader counts reads.
type countingReader struct {
	io.Reader
	n int
}

func (r *countingReader) Read(p []byte) (int, error) {
	r.n++
	return r.Reader.Read(p)
}

func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func TestScriptTimes(t *testing.T) {
	const ms = time.Millisecond
	bubble(t, "delay", func(t *testing.T) {
		p := perform(t, "delay=1s", nil, "")
		p.send("T:a b: C:bc")
		time.Sleep(300 * ms)
		p.send("T:d P:now")
		p.expectAt(300*ms, "O:now")
		p.expectAt(1000*ms, "T:a B:bc")
		p.expectAt(1300*ms, "T:d")
		p.close()
	})
	bubble(t, "delay ends with the client", func(t *testing.T) {
		p := perform(t, "delay=1s", nil, "")
		p.send("T:a")
		p.close()
		if took := time.Since(p.began); took != 0 {
			t.Errorf("ended after %s", took)
		}
	})
	bubble(t, "what is due leaves before the end", func(t *testing.T) {
		p := perform(t, "fragment=2", nil, "")
		p.sendAside("T:abcd T:ef X:1000")
		p.expectAt(0, "t:ab C:cd T:ef")
		<-p.over
	})
	bubble(t, "interval", func(t *testing.T) {
		p := perform(t, "interval=100ms&count=3&size=6", nil, "")
		p.expectAt(100*ms, `T:1\x20of\x203`)
		p.send("T:a")
		p.expectAt(100*ms, "T:a")
		p.expectAt(200*ms, `T:2\x20of\x203`)
		time.Sleep(250 * ms) // the message waits to be received
		p.expectAt(450*ms, `T:3\x20of\x203`)
		p.ExpectSilence(time.Minute)
		p.close()
	})
	bubble(t, "unasked messages are as long as asked for", func(t *testing.T) {
		p := perform(t, "interval=0&count=2&size=10", nil, "")
		p.expectAt(0, `T:1\x20of\x202\x20... T:2\x20of\x202\x20...`)
		p.close()
		p = perform(t, "interval=0&count=2&size=0", nil, "")
		p.expectAt(0, `T: T:`)
		p.close()
	})
	bubble(t, "a late reply doesn't hold up what is unasked", func(t *testing.T) {
		p := perform(t, "delay=250ms&interval=100ms&count=4&size=1", nil, "")
		p.send("T:a")
		p.expectAt(100*ms, "T:1")
		p.expectAt(200*ms, "T:2")
		p.expectAt(250*ms, "T:a")
		p.expectAt(300*ms, "T:3")
		p.close()
	})
	bubble(t, "ping", func(t *testing.T) {
		p := perform(t, "ping=100ms&delay=150ms", nil, "")
		p.send("T:a")
		p.expectAt(100*ms, "P:script's")
		p.expectAt(150*ms, "T:a")
		p.expectAt(200*ms, "P:script's")
		p.close()
	})
	bubble(t, "rate", func(t *testing.T) {
		p := perform(t, "rate=100", nil, "")
		p.send("T:%98")
		p.expectAt(1000*ms, "T:%98") // two bytes are the header's
		p.send("B:%8")
		p.expectAt(1100*ms, "B:%8")
		p.close()
	})
	bubble(t, "rate of one", func(t *testing.T) {
		p := perform(t, "rate=1&fragment=1", nil, "")
		p.send("T:ab")
		synctest.Wait()
		p.send("P:now")
		p.expectAt(3000*ms, "t:a O:now")
		p.expectAt(6000*ms, "C:b")
		p.close()
	})
	bubble(t, "pings wait for the end of a frame", func(t *testing.T) {
		p := perform(t, "rate=100&fragment=18&ping=150ms", nil, "")
		p.send("T:%18")
		p.expectAt(200*ms, "T:%18 P:script's")
		p.expectAt(300*ms, "P:script's")
		p.close()
	})
	bubble(t, "the end hurries what is slow", func(t *testing.T) {
		p := perform(t, "rate=1", nil, "")
		p.sendAside("T:abc T:def X:1000")
		p.expectAt(0, "T:abc T:def")
		<-p.over
	})
	bubble(t, "pings between many frames", func(t *testing.T) {
		p := perform(t, "ping=100ms&interval=0&count=1&size=1MiB&fragment=16KiB", nil, "")
		pings := 0
		for f := p.ReadFrame(); f.First&ws.FinBit == 0 || f.Opcode() == ws.OpPing; f = p.ReadFrame() {
			time.Sleep(50 * ms)
			if f.Opcode() == ws.OpPing {
				pings++
			}
		}
		if pings < 15 { // one with each piece of four frames
			t.Errorf("%d pings in %s", pings, time.Since(p.began))
		}
		p.Conn.Close()
		<-p.over
	})
	bubble(t, "small frames leave together", func(t *testing.T) {
		p := perform(t, "rate=1MiB&fragment=1&interval=0&count=1&size=200000", nil, "")
		frames, reads := 0, &countingReader{Reader: p.Conn}
		p.Reader.Reset(reads)
		for f := p.ReadFrame(); f.First&ws.FinBit == 0; f = p.ReadFrame() {
			frames++
		}
		if frames != 199_999 || reads.n > 1000 {
			t.Errorf("%d frames came in %d reads", frames+1, reads.n)
		}
		p.close()
	})
	bubble(t, "the end hurries what is long", func(t *testing.T) {
		p := perform(t, "rate=1&fragment=1MiB", nil, "")
		reads := &countingReader{Reader: p.Conn}
		p.Reader.Reset(reads)
		p.send("B:%500000")
		p.sendAside("X:1000")
		p.expectAt(0, "B:%500000")
		if reads.n > 1000 {
			t.Errorf("it came in %d reads", reads.n)
		}
		<-p.over
	})
	bubble(t, "close after a time", func(t *testing.T) {
		p := perform(t, "close=4000&reason=x&after=5s&rate=1&interval=1s&size=100", nil, "")
		f := p.ReadFrame() // the rest of it is sent at once when it is time
		if took := time.Since(p.began); len(f.Payload) != 100 || took != 5*time.Second {
			t.Errorf("%d bytes after %s", len(f.Payload), took)
		}
		p.expectAt(5000*ms, "X:4000,x")
		p.close()
	})
	bubble(t, "abort after a time", func(t *testing.T) {
		p := perform(t, "abort&after=5s&rate=10&interval=0&size=1000", nil, "")
		got, _ := io.ReadAll(p.Conn)
		if took := time.Since(p.began); len(got) > 60 || took != 5*time.Second {
			t.Errorf("%d bytes came in %s", len(got), took)
		}
		<-p.over
	})
	bubble(t, "abort doesn't wait for a client that doesn't read", func(t *testing.T) {
		p := perform(t, "abort&after=5s&interval=0", nil, "")
		<-p.over
		if took := time.Since(p.began); took != 5*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

func TestScriptEnds(t *testing.T) {
	for _, c := range []struct{ query, send, want string }{
		{"close=1012&reason=later", "", "X:1012,later"},
		{"close=4999", "T:a", "X:4999"},
		{"close=1000&after=2", "T:a T:b T:c", "T:a T:b X:1000"},
		{"close=1000&after=3&drop=2", "T:a T:b T:c", "T:a T:c X:1000"},
		{"close=1000&after=2&interval=1s&size=1", "T:a", "T:a T:1 X:1000"},
		{"close=1000&after=2&delay=1s", "T:a T:b T:c", "T:a T:b X:1000"},
		{"drop=1&close=1000&after=1s", "T:a T:b", "X:1000"},
		{"fragment=3&close=1000&after=1", "B:abcdefg", "b:abc c:def C:g X:1000"},
		{"fragment=3&close=1000&after=2", "T: T:abc", "T: T:abc X:1000"},
	} {
		bubble(t, c.query, func(t *testing.T) {
			p := perform(t, c.query, nil, "")
			if c.send != "" {
				p.sendAside(c.send)
			}
			var got []string
			for word := range strings.FieldsSeq(c.want) {
				f := p.ReadFrame()
				if !wstest.Matches(word, f.First, f.Payload) {
					t.Fatalf("after %s: got frame %#x %q, want %s", got, f.First, f.Payload, word)
				}
				got = append(got, word)
			}
			p.sendAside("X:")
			<-p.over
			if p.ends != 1 || p.failed != nil {
				t.Errorf("ended %d times, failed with %v", p.ends, p.failed)
			}
		})
	}
	bubble(t, "hello first", func(t *testing.T) {
		p := perform(t, "close=1000&delay=1s&fragment=4", nil, "greetings")
		p.expectAt(0, "t:gree c:ting C:s X:1000")
		p.close()
	})
	bubble(t, "abort", func(t *testing.T) {
		p := perform(t, "abort&after=1", nil, "")
		p.send("T:a")
		p.expectAt(0, "T:a")
		if _, err := p.TryReadFrame(); err == nil {
			t.Error("something followed")
		}
		<-p.over
	})
	bubble(t, "a Close frame that is not answered", func(t *testing.T) {
		p := perform(t, "close_reply=never&ping=1s&interval=1500ms&count=1&size=1&close=4000&after=3s", nil, "")
		p.send("X:1000")
		p.expectAt(1000*time.Millisecond, "P:script's")
		p.expectAt(1500*time.Millisecond, "T:1")
		p.expectAt(2000*time.Millisecond, "P:script's")
		f := p.ReadFrame()
		for f.Opcode() == ws.OpPing {
			f = p.ReadFrame()
		}
		if f.Opcode() != ws.OpClose || !p.ignored {
			t.Errorf("got frame %#x, ignored %t", f.First, p.ignored)
		}
		p.Conn.Close()
		<-p.over
		if _, ok := errors.AsType[*ws.PeerCloseError](p.err); !ok {
			t.Errorf("ended with %v", p.err)
		}
	})
	bubble(t, "a broken frame", func(t *testing.T) {
		p := perform(t, "delay=1m&rate=1", nil, "")
		p.send("T:a #8f00")
		<-p.over
		if broken, ok := errors.AsType[*ws.CloseError](p.err); !ok || broken.Code != 1002 {
			t.Errorf("ended with %v", p.err)
		}
	})
	bubble(t, "a message that is too long", func(t *testing.T) {
		p := perform(t, "hello", nil, "h")
		p.conn.Limit = 10
		p.expectAt(0, "T:h")
		p.send("t:%6")
		p.sendAside("C:%5")
		<-p.over
		if broken, ok := errors.AsType[*ws.CloseError](p.err); !ok || broken.Code != 1009 {
			t.Errorf("ended with %v", p.err)
		}
	})
	bubble(t, "text that is not UTF-8", func(t *testing.T) {
		p := perform(t, "fragment=1", nil, "")
		p.sendAside(`T:a\xff`)
		<-p.over
		if p.err != ws.ErrInvalidUTF8 {
			t.Errorf("ended with %v", p.err)
		}
	})
	bubble(t, "the client is gone", func(t *testing.T) {
		p := perform(t, "interval=1s", nil, "")
		p.Conn.Close()
		<-p.over
	})
}

// Replies that wait take a bounded amount of memory, and end with the socket.
func TestScriptQueue(t *testing.T) {
	for query, size := range map[string]int{"delay=60s": 0, "delay=1m": 100, "delay=59s": 100_000, "rate=1": 300_000, "rate=2&fragment=3": 100} {
		bubble(t, query, func(t *testing.T) {
			p := perform(t, query, nil, "")
			go func() { _, _ = io.Copy(io.Discard, p.Conn) }()
			frame := wstest.ClientFrame(ws.FinBit|byte(ws.OpBinary), make([]byte, size))
			written := 0
			go func() {
				for {
					if _, err := p.Conn.Write(frame); err != nil {
						return
					}
					written++
				}
			}()
			time.Sleep(time.Second)
			synctest.Wait()
			if took := written * (size + queuedOverhead); took < maxQueued/2 || took > maxQueued+2*(size+queuedOverhead)+bufferSize*(queuedOverhead+8) {
				t.Errorf("%d messages of %d bytes were received", written, size)
			}
			close(p.ended)
			<-p.over
			if p.err != ws.ErrCloseSent {
				t.Errorf("ended with %v", p.err)
			}
		})
	}
}

// Compressed messages keep their contexts apart: what is received and what is sent are not the
// same.
func TestScriptCompression(t *testing.T) {
	d := &ws.Deflate{ServerTakeover: true, ClientTakeover: true, ServerWindowBits: 10}
	bubble(t, "", func(t *testing.T) {
		p := perform(t, "drop=2&fragment=7", d, "hello, "+conversation()[0])
		client := newDeflatingClient(t, 15, true)
		server := &inflater{window: 1 << 10, takeover: true}
		receive := func(want string) {
			t.Helper()
			f := p.ReadFrame()
			if f.First&ws.RSV1Bit == 0 {
				t.Fatalf("first byte %#x", f.First)
			}
			payload := slices.Clone(f.Payload)
			for f.First&ws.FinBit == 0 {
				if f = p.ReadFrame(); len(f.Payload) > 7 || f.Opcode() != ws.OpContinuation || f.First&ws.RSV1Bit != 0 {
					t.Fatalf("frame %#x of %d bytes", f.First, len(f.Payload))
				}
				payload = append(payload, f.Payload...)
			}
			if got, err := server.message(payload); string(got) != want || err != nil {
				t.Fatalf("got %q, %v, want %q", got, err, want)
			}
		}
		receive("hello, " + conversation()[0])
		for i, message := range conversation() {
			p.WriteRaw(wstest.ClientFrame(ws.FinBit|ws.RSV1Bit|byte(ws.OpBinary), client.message(t, message)))
			if i%2 == 0 {
				receive(message)
			}
		}
		p.close()
	})
}

// FuzzScript holds what a script without effect makes of a client's bytes against what the plain
// echo makes of them.
func FuzzScript(f *testing.F) {
	for _, seed := range conformance.Seeds() {
		f.Add(seed, []byte{0}, false)
		f.Add(seed, []byte{250, 3}, true)
	}
	f.Fuzz(func(t *testing.T, stream, sizes []byte, deflate bool) {
		plain := readOurs(t, stream, sizes, deflate)
		in := &wstest.Pieces{In: stream, Sizes: sizes}
		c := newConn(in, in, deflate)
		c.Script = &Script{
			Controls: new(controls.Controls),
			Go:       func(f func()) { go f() },
			Failed:   func(err error) { t.Errorf("a write failed: %v", err) },
		}
		scripted := readingOf(t, c, in)
		if !slices.Equal(scripted.messages, plain.messages) {
			t.Errorf("%x: %q with a script, %q without", stream, scripted.messages, plain.messages)
		}
		if fmt.Sprint(scripted.err) != fmt.Sprint(plain.err) {
			t.Errorf("%x: %v with a script, %v without", stream, scripted.err, plain.err)
		}
		// Of several Pings only the last one may be answered.
		if n := len(plain.pings); (n == 0) != (len(scripted.pings) == 0) || n > 0 && scripted.pings[len(scripted.pings)-1] != plain.pings[n-1] {
			t.Errorf("%x: pongs %q with a script, %q without", stream, scripted.pings, plain.pings)
		}
	})
}
