package caddywebsocket

import (
	"fmt"
	"net/http"
	"runtime/debug"
)

// onOwnStack runs f on a stack of its own, which is given back when f returns.
//
// A goroutine's stack doubles when a call needs more of it, and is halved again
// only while less than a quarter of it is in use. Caddy's handlers around a waiting
// socket use 6 KiB of 8. A handshake done on the same stack would leave it with 16.
func onOwnStack(f func()) {
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

// recovered is what to panic with elsewhere for a panic that was recovered here:
// with where it came from, unless it only aborts the response.
func recovered(panicked any) any {
	if panicked == nil || panicked == http.ErrAbortHandler {
		return panicked
	}
	if err, ok := panicked.(error); ok {
		return fmt.Errorf("%w\n%s", err, debug.Stack())
	}
	return fmt.Sprintf("%v\n%s", panicked, debug.Stack())
}
