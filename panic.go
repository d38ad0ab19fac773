package caddywebsocket

import (
	"errors"
	"fmt"
	"runtime/debug"

	"go.uber.org/zap"
)

// contain is deferred by what runs on goroutines that nobody else recovers: those
// of timers, and those that the next handler copies on. A panic ends the session
// there, not the process. If err is not nil, it is where the error is returned.
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
	s.end(ending{by: byError, code: closeNone, reason: fmt.Sprint("panic: ", panicked)})
	s.stream.Cut()
	defer func() { _ = recover() }() // what panics may be the log
	s.handler.logger.Error("panic in a socket", zap.String("id", s.id), zap.Any("panic", panicked), zap.ByteString("stack", stack))
	return err
}

var errPanicked = errors.New("panic")
