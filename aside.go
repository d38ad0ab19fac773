package caddywebsocket

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"

	"github.com/gorilla/websocket"
	"go.uber.org/zap"
)

// aside runs f on a stack of its own, which is given back when f returns.
//
// A goroutine's stack doubles when a call needs more of it, and is halved again
// only while less than a quarter of it is in use. Caddy's handlers around a waiting
// socket use 6 KiB of 8. A handshake done on the same stack would leave it with 16.
func aside(f func()) {
	var (
		panicked any
		done     = make(chan struct{})
	)
	go func() {
		defer close(done)
		defer func() { panicked = recovered(recover()) }()
		f()
	}()
	<-done
	if panicked != nil {
		panic(panicked) // the HTTP server has its own way with it
	}
}

// contain, which is to be deferred, makes an end of the session of a panic on a
// goroutine that nobody else recovers, be it a timer's or one of the next handler's
// that copies. The error that f returns, if it returns one, says so.
func (s *session) contain(err *error) {
	panicked := recover()
	if panicked == nil {
		return
	}
	e := s.panicked(panicked)
	if err != nil {
		*err = e
	}
}

// panicked ends the session for a panic.
func (s *session) panicked(panicked any) (err error) {
	err = errPanicked
	stack := debug.Stack()
	s.ends(ending{byError, websocket.CloseAbnormalClosure, fmt.Sprint("panic: ", panicked)})
	s.stream.cut()
	defer func() { _ = recover() }() // what panics may be the log
	s.handler.logger.Error("panic in a socket", zap.String("id", s.id), zap.Any("panic", panicked), zap.ByteString("stack", stack))
	return err
}

var errPanicked = errors.New("panic")

// recovered is what to panic with elsewhere for a panic that was recovered here:
// with where it came from, unless it only has the response aborted.
func recovered(panicked any) any {
	if panicked == nil || panicked == http.ErrAbortHandler {
		return panicked
	}
	if err, ok := panicked.(error); ok {
		return fmt.Errorf("%w\n%s", err, debug.Stack())
	}
	return fmt.Sprintf("%v\n%s", panicked, debug.Stack())
}
