package caddywebsocket

import (
	"errors"
	"io"
	"net/http"
	"os"
	"slices"

	"github.com/gorilla/websocket"
	"github.com/quic-go/quic-go/http3"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// A cause says what ended a session.
type cause string

const (
	byClient           cause = "client"
	byServer           cause = "server"
	byKeepaliveTimeout cause = "keepalive_timeout"
	byWriteTimeout     cause = "write_timeout"
	byLifetime         cause = "lifetime"
	byReload           cause = "reload"
	byShutdown         cause = "shutdown"
	byAdmin            cause = "admin"
	byUpstream         cause = "upstream"
	byError            cause = "error"
)

// An ending is how a session ends: why, and with which Close frame.
type ending struct {
	by     cause
	code   int // closeNone if there is no Close frame
	reason string
	// appCode is what the application is sent instead of code. 0: the same.
	appCode int
}

// closeNone stands for an end without a Close frame, as RFC 6455 §7.1.5 has it.
const closeNone = websocket.CloseAbnormalClosure

// payload is that of the Close frame to the client.
func (e ending) payload() []byte { return ws.ClosePayload(e.code, e.reason) }

// appPayload is that of the one to the application.
func (e ending) appPayload() []byte {
	if e.appCode != 0 {
		return ws.ClosePayload(e.appCode, e.reason)
	}
	return e.payload()
}

// closeCodes are the codes that clients are sent, by cause, unless close_code names
// another. Many clients take 1000, 1001 or 1011 for final, and each of these ends is
// a passing trouble, so the code is one after which they come back: none, if the
// client may only have been asleep. See docs/close-codes.md.
//
// These ends have no reason either: some clients parse it.
var closeCodes = map[cause]int{
	byShutdown:         websocket.CloseServiceRestart,
	byReload:           websocket.CloseServiceRestart,
	byLifetime:         websocket.CloseServiceRestart,
	byUpstream:         websocket.CloseServiceRestart,
	byKeepaliveTimeout: closeNone,
	byAdmin:            websocket.ClosePolicyViolation,
}

// closeCauses lists the causes that close_code may name.
func closeCauses() []string {
	var names []string
	for by := range closeCodes {
		names = append(names, string(by))
	}
	slices.Sort(names)
	return names
}

// codesToSend describes the codes that maySendCode allows.
const codesToSend = "1000 to 1003, 1007 to 1009, 1011 to 1014, or 3000 to 4999"

// maySendCode reports whether a server may send a close code.
func maySendCode(code int) bool {
	return ws.ValidCloseCode(code) && code != websocket.CloseMandatoryExtension
}

// ending is how sessions end for a cause of our own.
func (h *Handler) ending(by cause) ending {
	e := ending{by: by, code: closeCodes[by]}
	if by != byAdmin {
		e.appCode = websocket.CloseGoingAway
	}
	if code, ok := h.CloseCode[string(by)]; ok {
		e.code = code
	}
	return e
}

// endingOf returns how a session ends after an error of reading or writing.
func (s *session) endingOf(err error) ending {
	var (
		closed  *ws.PeerClose
		broken  *ws.CloseError
		writing *ws.WriteError
		tooLong *http.MaxBytesError
		h3      *http3.Error
	)
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	switch {
	case errors.As(err, &closed):
		return ending{by: byClient, code: closed.Code, reason: closed.Reason}
	case errors.As(err, &broken):
		return ending{by: byServer, code: broken.Code, reason: broken.Reason}
	case errors.As(err, &tooLong):
		return ending{by: byServer, code: websocket.CloseMessageTooBig, reason: "request_body max_size"}
	case errors.Is(err, os.ErrDeadlineExceeded) && errors.As(err, &writing):
		return ending{by: byWriteTimeout, code: closeNone, reason: err.Error()}
	case errors.As(err, &h3) && !h3.Remote && s.handler.ctx.Err() != nil: // the end of grace_period
		return ending{by: byReload, code: closeNone, reason: err.Error()}
	case errors.Is(err, os.ErrDeadlineExceeded): // a read timeout of the server's
		return ending{by: byError, code: closeNone, reason: err.Error()}
	default:
		return ending{by: byClient, code: closeNone, reason: err.Error()}
	}
}
