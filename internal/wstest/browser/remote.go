package browser

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// A remote controls a browser: the DevTools protocol of Chromium and WebDriver
// BiDi are both commands with numbers, and events, as JSON on a WebSocket.
type remote struct {
	conn   *websocket.Conn
	events func(session, method string, params json.RawMessage)

	mu      sync.Mutex // guards what follows, and writing
	number  int
	waiting map[int]chan remoteMessage // nil when the browser has gone
}

type remoteMessage struct {
	ID        int             `json:"id,omitempty"`
	Session   string          `json:"sessionId,omitempty"` // DevTools
	Method    string          `json:"method,omitempty"`
	Params    json.RawMessage `json:"params,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     json.RawMessage `json:"error,omitempty"`
	ErrorText string          `json:"message,omitempty"` // BiDi
}

// startBrowser runs a browser until what it gives to atEnd is called. The browser
// says at which URL it listens, which the expression finds, to which path is
// appended.
func startBrowser(t *testing.T, atEnd func(func()), listening *regexp.Regexp, path string, events func(session, method string, params json.RawMessage), cmd ...string) *remote {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	process := exec.CommandContext(ctx, cmd[0], cmd[1:]...)
	process.Cancel = func() error { return process.Process.Signal(os.Interrupt) }
	process.WaitDelay = wstest.Timeout
	output, err := process.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	urls, ended := make(chan string, 1), make(chan struct{})
	var said strings.Builder
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(output); lines.Scan(); {
			said.WriteString(lines.Text() + "\n")
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				urls <- m[1]
			}
		}
		_ = process.Wait() // with whatever a signal makes of it
	}()
	atEnd(func() {
		stop()
		<-ended
	})
	select {
	case url := <-urls:
		return newRemote(t, atEnd, url+path, events)
	case <-ended:
		t.Fatalf("the browser ended:\n%s", said.String())
	case <-time.After(3 * wstest.Timeout): // a first start reads much from the disk
		t.Fatal("the browser doesn't listen")
	}
	return nil
}

func newRemote(t *testing.T, atEnd func(func()), url string, events func(session, method string, params json.RawMessage)) *remote {
	t.Helper()
	conn, res, err := websocket.DefaultDialer.Dial(url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	r := &remote{conn: conn, events: events, waiting: make(map[int]chan remoteMessage)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.read()
	}()
	atEnd(func() {
		conn.Close()
		<-ended
	})
	return r
}

func (r *remote) read() {
	for {
		var m remoteMessage
		if err := r.conn.ReadJSON(&m); err != nil {
			break
		}
		if m.ID == 0 {
			r.events(m.Session, m.Method, m.Params)
			continue
		}
		r.mu.Lock()
		waiting := r.waiting[m.ID]
		delete(r.waiting, m.ID)
		r.mu.Unlock()
		waiting <- m
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, waiting := range r.waiting {
		close(waiting)
	}
	r.waiting = nil
}

// call sends a command and puts what comes back into result unless that is nil.
func (r *remote) call(session, method string, params, result any) error {
	m, err := r.send(session, method, wstest.JSON(params))
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	answer, ok := <-m
	if !ok {
		return fmt.Errorf("%s: the browser has gone", method)
	}
	if answer.Error != nil {
		return fmt.Errorf("%s: %s %s", method, answer.Error, answer.ErrorText)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(answer.Result, result)
}

func (r *remote) send(session, method string, params []byte) (<-chan remoteMessage, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting == nil {
		return nil, errors.New("the browser has gone")
	}
	r.number++
	answer := make(chan remoteMessage, 1)
	r.waiting[r.number] = answer
	return answer, r.conn.WriteJSON(remoteMessage{ID: r.number, Session: session, Method: method, Params: params})
}
