package caddywebsocket

import (
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// beginAppKeepalive starts upstream_keepalive and returns when the first Ping may be due.
func (t *tunnel) beginAppKeepalive() time.Duration {
	interval := time.Duration(t.handler.UpstreamKeepaliveInterval)
	t.appKeepalive.BeginApp(interval, time.Duration(t.handler.UpstreamKeepaliveTimeout))
	t.appKeepalive.Listen()
	t.appKeepalive.BeginWrite() // until the application reads
	if !t.appKeepalive.On() {
		return never
	}
	t.wake = make(chan struct{}, 1)
	return interval
}

// pingApp sends the application a Ping, or has it read one.
func (t *tunnel) pingApp() {
	t.pingDue.Store(true)
	if t.appWritten.Load() {
		t.postAppPing()
		return
	}
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// postAppPing writes a Ping that is due to the application.
func (t *tunnel) postAppPing() {
	if t.pingDue.CompareAndSwap(true, false) {
		t.toApp.Post(ws.OpPing, nil)
	}
}

// takesAppPing reports whether a Ping is due and the application can be given it now.
func (t *tunnel) takesAppPing() bool {
	return t.pingDue.Load() && !t.upWithinFrame() && !t.up.Closed && t.pingDue.CompareAndSwap(true, false)
}

// nextAppPing returns a Ping for the application to read.
func (t *tunnel) nextAppPing() []byte {
	frame := ws.AppendClientControl(nil, ws.OpPing, t.appKeepalive.nextPing())
	t.appKeepalive.PingSent()
	return frame
}

// appPong reports whether a Pong from the application answers our Ping, and is to be
// taken out. After the first answer to the last Ping there is nothing to take out, and
// what the application writes stays as it is.
func (t *tunnel) appPong(payload []byte) bool {
	if !t.appKeepalive.unanswered() {
		return false
	}
	ours, _ := t.appKeepalive.pong(payload)
	return ours
}

// awaitsClient reports whether a Ping can be given to the application before the next
// bytes from the client.
func (t *tunnel) awaitsClient() bool {
	return t.appKeepalive.On() && !t.upWithinFrame() && len(t.upHeld) == 0
}

// awaitClient waits until the client has sent something, and returns true; or until it is
// time to look at pingDue. A read from a stream can't be interrupted for a Ping: on HTTP/2
// none would succeed after that. So another goroutine waits, over several calls if need be.
func (t *tunnel) awaitClient() bool {
	if t.awaited == nil {
		awaited := make(chan struct{})
		t.awaited = awaited
		t.keepalive.Listen()
		go func() {
			defer close(awaited)
			defer t.contain(nil)
			_ = t.stream.Wait() // a read finds the same error
		}()
	}
	select {
	case <-t.awaited:
		t.awaited = nil
		return true
	case <-t.wake:
		return false
	}
}

// stopWaiting waits until awaitClient's goroutine has ended, for only one may read.
func (t *tunnel) stopWaiting() {
	if t.awaited != nil {
		<-t.awaited
		t.awaited = nil
	}
}
