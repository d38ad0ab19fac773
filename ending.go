package caddywebsocket

import (
	"errors"
	"io"
	"net/http"
	"os"

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
	code   int // 1006 if there is no Close frame
	reason string
}

// payload is that of the Close frame.
func (e ending) payload() []byte { return closePayload(e.code, e.reason) }

// endingOf returns how a session ends after an error of reading or writing.
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
