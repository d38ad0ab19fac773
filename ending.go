package caddywebsocket

import (
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/gorilla/websocket"
	"github.com/quic-go/quic-go/http3"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// A cause is what ended a session. Logs, metrics and the admin API have it as closed_by
// or cause.
type cause string

const (
	byClient           cause = "client"
	byServer           cause = "server"
	byKeepaliveTimeout cause = "keepalive_timeout"
	byWriteTimeout     cause = "write_timeout"
	byLifetime         cause = "lifetime"
	byExpired          cause = "expired"
	byRecheck          cause = "recheck"
	byReload           cause = "reload"
	byShutdown         cause = "shutdown"
	byAdmin            cause = "admin"
	byUpstream         cause = "upstream"
	byUpstreamTimeout  cause = "upstream_timeout"
	byTestControls     cause = "test_controls"
	byError            cause = "error"
)

// upstreams reports whether the application is the cause.
func (by cause) upstreams() bool { return by == byUpstream || by == byUpstreamTimeout }

// An ending is how a session ends: why, and with which Close frame.
type ending struct {
	by     cause
	code   int // the close code, or closeNone if there is no Close frame
	reason string
	// appCode is the close code that the application is sent instead. 0: the same one.
	appCode int
	peers   bool   // the Close frame is a peer's
	invalid string // which rule a peer's Close frame breaks, if any
	literal bool   // the Close frame has the code whatever that means
}

// closeNone stands for a session that ends without a Close frame (RFC 6455 §7.1.5).
const closeNone = websocket.CloseAbnormalClosure

// endingBy returns how a session ends with a peer's Close frame.
func endingBy(by cause, sent ws.PeerCloseError) ending {
	return ending{by: by, code: sent.Code, reason: sent.Reason, peers: true, invalid: sent.Invalid}
}

// withoutClose reports whether there is no Close frame. A peer's may carry closeNone,
// which no endpoint may send.
func (e ending) withoutClose() bool { return e.code == closeNone && e.invalid == "" && !e.literal }

// unsent returns the ending without its Close frame, which could not be sent.
func (e ending) unsent() ending {
	if !e.withoutClose() {
		e.code, e.literal = closeNone, false
		e.reason = strings.TrimSuffix("no Close frame could be sent: "+e.reason, ": ")
	}
	return e
}

// payload returns the payload of the Close frame to the client.
func (e ending) payload() []byte {
	if e.invalid != "" {
		return ws.ClosePayload(websocket.CloseProtocolError, "")
	}
	if e.literal {
		return append(binary.BigEndian.AppendUint16(nil, uint16(e.code)), e.reason...)
	}
	return ws.ClosePayload(e.code, e.reason)
}

// appPayload returns the payload of the Close frame to the application.
func (e ending) appPayload() []byte {
	if e.appCode != 0 {
		return ws.ClosePayload(e.appCode, e.reason)
	}
	return e.payload()
}

// closeCodes are the default codes that clients are sent, by cause. Many clients don't
// reconnect after 1000, 1001 or 1011, but these causes are temporary, so the code is one
// after which clients reconnect: none at all if the client may only have been asleep.
// See docs/close-codes.md.
//
// Their Close frames have no reason, since some clients parse it, but for the ends of
// logins, which are final.
var closeCodes = map[cause]int{
	byShutdown:         websocket.CloseServiceRestart,
	byReload:           websocket.CloseServiceRestart,
	byLifetime:         websocket.CloseServiceRestart,
	byUpstream:         websocket.CloseServiceRestart,
	byUpstreamTimeout:  websocket.CloseServiceRestart,
	byKeepaliveTimeout: closeNone,
	byExpired:          websocket.ClosePolicyViolation,
	byRecheck:          websocket.ClosePolicyViolation,
	byAdmin:            websocket.ClosePolicyViolation,
}

// closeReasons are the reasons of Close frames that have one, by cause.
var closeReasons = map[cause]string{
	byExpired: "session expired",
	byRecheck: "no longer authorized",
}

// closeCauses returns the causes that close_code accepts, sorted.
func closeCauses() []string {
	names := make([]string, 0, len(closeCodes))
	for by := range closeCodes {
		names = append(names, string(by))
	}
	slices.Sort(names)
	return names
}

// codesToSend describes the codes that maySendCode accepts.
const codesToSend = "1000 to 1003, 1007 to 1009, 1011 to 1014, or 3000 to 4999"

// maySendCode reports whether a server may send a close code (RFC 6455 §7.4.1).
func maySendCode(code int) bool {
	return ws.ValidCloseCode(code) && code != websocket.CloseMandatoryExtension
}

// ending returns how a session ends for a cause that close_code accepts.
func (h *Handler) ending(by cause) ending {
	e := ending{by: by, code: closeCodes[by], reason: closeReasons[by]}
	if code, ok := h.CloseCode[string(by)]; ok {
		e.code = code
	}
	if e.code == closeNone || closeCodes[by] != websocket.ClosePolicyViolation {
		e.appCode = websocket.CloseGoingAway
	}
	return e
}

// endingOf returns how a session ends after a read or write has failed with err.
func (s *session) endingOf(err error) ending {
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	if closed, ok := errors.AsType[*ws.PeerCloseError](err); ok {
		return endingBy(byClient, *closed)
	}
	if broken, ok := errors.AsType[*ws.CloseError](err); ok {
		return ending{by: byServer, code: broken.Code, reason: broken.Reason}
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return ending{by: byServer, code: websocket.CloseMessageTooBig, reason: "request_body max_size"}
	}
	end := ending{by: byClient, code: closeNone, reason: err.Error()}
	_, writing := errors.AsType[*ws.WriteError](err)
	h3, isH3 := errors.AsType[*http3.Error](err)
	late := errors.Is(err, os.ErrDeadlineExceeded)
	switch {
	case late && writing:
		end.by = byWriteTimeout
	case isH3 && !h3.Remote && s.handler.ctx.Err() != nil: // the end of grace_period
		end.by = byReload
	case late: // a read timeout of the HTTP server
		end.by = byError
	}
	return end
}
