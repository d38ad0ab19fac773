package caddywebsocket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"unicode/utf8"

	"github.com/gorilla/websocket"
	"github.com/quic-go/quic-go/http3"
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
	code   int // 1006 where there is no Close frame
	reason string
}

// endingOf tells how the session ends after err, which ended its reading or
// writing.
func (s *session) endingOf(err error) ending {
	var (
		closed  *peerCloseError
		broken  *closeError
		writing *writeError
		tooLong *http.MaxBytesError
		h3      *http3.Error
	)
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	switch {
	case errors.As(err, &closed):
		return ending{byClient, closed.code, closed.reason}
	case errors.As(err, &broken):
		return ending{byServer, broken.code, broken.reason}
	case errors.As(err, &tooLong):
		return ending{byServer, websocket.CloseMessageTooBig, "request_body max_size"}
	case errors.Is(err, os.ErrDeadlineExceeded) && errors.As(err, &writing):
		return ending{byWriteTimeout, websocket.CloseAbnormalClosure, err.Error()}
	case errors.As(err, &h3) && !h3.Remote && s.handler.ctx.Err() != nil: // the end of grace_period
		return ending{byReload, websocket.CloseAbnormalClosure, err.Error()}
	case errors.Is(err, os.ErrDeadlineExceeded): // a read timeout of the server's
		return ending{byError, websocket.CloseAbnormalClosure, err.Error()}
	default:
		return ending{byClient, websocket.CloseAbnormalClosure, err.Error()}
	}
}

// A peerCloseError is the client's Close frame.
type peerCloseError struct {
	code   int // 1005: none
	reason string
}

func (e *peerCloseError) Error() string { return fmt.Sprintf("client closed: %d %s", e.code, e.reason) }

// parseClose parses the payload of a Close frame (RFC 6455 §5.5.1). It always
// returns an error: a peerCloseError, or a closeError if the frame breaks a rule.
func parseClose(payload []byte) error {
	switch len(payload) {
	case 0:
		return &peerCloseError{code: websocket.CloseNoStatusReceived}
	case 1:
		return protocolError("close frame with half a code")
	}
	code := int(binary.BigEndian.Uint16(payload))
	if !validCloseCode(code) {
		return protocolError("close code %d", code)
	}
	if !utf8.Valid(payload[2:]) {
		return errInvalidUTF8
	}
	return &peerCloseError{code, string(payload[2:])}
}
