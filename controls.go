package caddywebsocket

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/gorilla/websocket"
	"go.uber.org/zap"

	"github.com/seed-21dbdb71/caddy-websocket/internal/controls"
	"github.com/seed-21dbdb71/caddy-websocket/internal/echo"
)

// control reads what the client asks for in the query of the URL and does what comes before the
// socket. It reports whether it has answered the handshake, since that is not to be accepted.
func (s *session) control(w http.ResponseWriter, r *http.Request) (answered bool, err error) {
	if s.asked, err = controls.Parse(r.URL.RawQuery); err != nil {
		metrics.countHandshake(s.scopeOf(""), refusals[http.StatusBadRequest])
		writeLine(w, http.StatusBadRequest, err.Error())
		return true, nil
	}
	if s.asked == nil {
		return false, nil
	}
	if err := s.holdAnswer(w, r); err != nil {
		metrics.countHandshake(s.scopeOf(""), handshakeFailed)
		return false, err
	}
	switch status := s.asked.Status; {
	case status == 0:
		return false, nil
	case status < http.StatusOK:
		w.WriteHeader(status) // and the final answer follows
		return false, nil
	case status < http.StatusMultipleChoices && r.ProtoMajor > 1:
		w.WriteHeader(status)                     // which accepts the handshake: what follows would be frames
		_ = http.NewResponseController(w).Flush() // without Content-Length
	case status == http.StatusResetContent:
		w.WriteHeader(status) // which allows no body, though Go would send one
	default:
		writeLine(w, status, fmt.Sprintf("status=%d was asked for", status))
	}
	metrics.countHandshake(s.scopeOf(""), handshakeControlled)
	return true, nil
}

// holdAnswer waits for as long as the client has asked for, or until the request, the config or
// the process ends, which it returns an error for.
func (s *session) holdAnswer(w http.ResponseWriter, r *http.Request) error {
	if s.asked.AcceptDelay == 0 {
		return nil
	}
	s.handler.logger.Debug("handshake waits for accept_delay", zap.Duration("delay", s.asked.AcceptDelay))
	delay := time.NewTimer(s.asked.AcceptDelay)
	defer delay.Stop()
	select {
	case <-delay.C:
		return nil
	case <-r.Context().Done():
		return caddyhttp.Error(statusClientClosed, fmt.Errorf("accept_delay: %w", r.Context().Err()))
	case <-s.handler.ctx.Done():
	case <-sessions.exit:
	}
	w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	return caddyhttp.Error(http.StatusServiceUnavailable, errors.New("accept_delay: the server is exiting, or its config was replaced"))
}

// statusClientClosed is what Caddy's access log has for a client that has left.
const statusClientClosed = 499

// writeLine writes a whole answer of one line.
func writeLine(w http.ResponseWriter, status int, line string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, line+"\n") //nolint:gosec // plain text, which nobody may take for HTML
}

// script returns what has the socket behave as the client asks for; nil if it asks for nothing.
// It is called before the session begins.
func (s *session) script(r *http.Request, a *accepted) *echo.Script {
	if s.asked == nil {
		return nil
	}
	script := &echo.Script{
		Controls: s.asked,
		Ended:    s.awaitEnding(),
		Go: func(f func()) {
			go func() {
				defer s.contain(nil)
				f()
			}()
		},
		Ping:   s.ping,
		End:    s.endAsAsked,
		Failed: s.writeFailed,
		Ignore: s.ignoreClose,
	}
	if s.asked.Hello {
		script.Hello = s.hello(r, a)
	}
	return script
}

// endAsAsked ends the session as close or abort ask for.
func (s *session) endAsAsked() {
	defer s.contain(nil)
	e := ending{by: byTestControls, code: s.asked.Code, reason: s.asked.Reason, literal: true}
	switch {
	case s.asked.Abort:
		s.end(ending{by: byTestControls, code: closeNone, reason: "abort"})
		s.stream.Cut()
		return
	case s.asked.Code == controls.NoCode:
		e.code, e.literal = websocket.CloseNoStatusReceived, false
	}
	s.closeWith(e)
}

// ignoreClose lets the client wait for an answer to its Close frame, for no longer than anything
// else that a client may ask for.
func (s *session) ignoreClose() {
	s.closeIgnored.Store(true)
	s.keepalive.off.Store(true) // it owes no Pongs any more
	s.plan(controls.MaxDuration, ending{by: byTestControls, code: closeNone, reason: "close_reply=never"})
}

// A hello describes the handshake of a socket to its client.
type hello struct {
	HTTP        string            `json:"http"`
	Host        string            `json:"host"`
	RemoteAddr  string            `json:"remote_addr"`
	Subprotocol string            `json:"subprotocol"`
	Extensions  string            `json:"extensions"`
	Controls    map[string]string `json:"controls"`
	Headers     http.Header       `json:"headers"`
}

// hello returns the message that describes the handshake.
func (s *session) hello(r *http.Request, a *accepted) []byte {
	message, err := json.Marshal(hello{
		HTTP:        strings.TrimPrefix(s.handshake.proto, "HTTP/"),
		Host:        r.Host,
		RemoteAddr:  r.RemoteAddr,
		Subprotocol: a.subprotocol,
		Extensions:  a.extensions(),
		Controls:    s.asked.Given,
		Headers:     withoutSecrets(r.Header),
	})
	if err != nil {
		panic(err) // strings can be marshaled
	}
	return message
}

// withoutSecrets returns a copy of a header with the values of those fields only that can't hold
// secrets: a page must not see what the browser keeps from it, such as cookies, nor what a proxy
// has added about the user.
func withoutSecrets(header http.Header) http.Header {
	header = header.Clone()
	delete(header, ":protocol")
	for name := range header {
		if !harmless(name) {
			header[name] = []string{"REDACTED"} // as in Caddy's access log
		}
	}
	return header
}

// harmless reports whether a field is one that browsers and WebSocket clients send by themselves,
// tells the way of the request, or is meant for this.
func harmless(name string) bool {
	switch name {
	case "Accept", "Accept-Encoding", "Accept-Language", "Cache-Control", "Connection", "Dnt", "Forwarded", "Host", "Origin",
		"Pragma", "Priority", "Te", "Upgrade", "User-Agent", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto":
		return true
	}
	return slices.ContainsFunc([]string{"Sec-Ch-", "Sec-Fetch-", "Sec-Gpc", "Sec-Websocket-", "X-Test"}, func(prefix string) bool {
		return strings.HasPrefix(name, prefix)
	})
}
