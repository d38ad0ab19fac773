package caddywebsocket

import (
	"errors"
	"fmt"
	"runtime/debug"

	"go.uber.org/zap"
)

// contain is deferred by functions that run on goroutines where nothing else recovers
// from panics: those of timers, and those on which the next handler copies. A panic there
// ends the session, not the process. If err is not nil, *err is set to errPanicked.
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

// panicked ends the session because of a panic and returns errPanicked.
func (s *session) panicked(panicked any) (err error) {
	err = errPanicked
	stack := debug.Stack()
	s.end(ending{by: byError, code: closeNone, reason: fmt.Sprint("panic: ", panicked)})
	s.stream.Cut()
	defer func() { _ = recover() }() // the logger itself may have panicked
	s.handler.logger.Error("panic while serving a socket", zap.String("id", s.id), zap.Any("panic", panicked), zap.ByteString("stack", stack))
	return err
}

var errPanicked = errors.New("panic")
