package caddywebsocket

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"

	"go.uber.org/zap"
)

// onOwnStack runs f on a stack of its own, which is freed when f returns.
//
// A goroutine's stack doubles when a call needs more of it, and is halved again only
// while less than a quarter of it is in use. While a socket waits, Caddy's handlers use
// 6 KiB of a stack of 8 KiB. A handshake on the same stack would make it 16 KiB for good.
func onOwnStack(f func()) {
	var (
		panicked any
		done     = make(chan struct{})
	)
	go func() {
		defer close(done)
		defer func() { panicked = recovered(recover()) }()
		reserveStack(-1)
		f()
	}()
	<-done
	if panicked != nil {
		panic(panicked) // for the HTTP server to recover from
	}
}

// reserveStack makes the stack of a new goroutine as large as a handshake needs. Each time
// that a stack grows, all frames on it are moved: this way it grows once, while there are few.
// It never needs to touch its frame; but without the code that does, it would have none.
//
//go:noinline
func reserveStack(touch int) byte {
	if touch < 0 {
		return 0 // to have the frame is enough, clearing it takes time
	}
	var frame [6 << 10]byte
	return frame[touch]
}

// recovered returns the value with which to continue, on another goroutine, a panic that
// was recovered on this one. It includes the stack, unless the panic only aborts the
// response.
func recovered(panicked any) any {
	if panicked == nil || panicked == http.ErrAbortHandler {
		return panicked
	}
	if err, ok := panicked.(error); ok {
		return fmt.Errorf("%w\n%s", err, debug.Stack())
	}
	return fmt.Sprintf("%v\n%s", panicked, debug.Stack())
}

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
