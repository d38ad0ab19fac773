package ws

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

// A closeError ends a socket with a Close frame that carries code and reason.
type CloseError struct {
	Code   int
	Reason string
}

func (e *CloseError) Error() string { return fmt.Sprintf("close %d: %s", e.Code, e.Reason) }

func ProtocolError(format string, args ...any) error {
	return &CloseError{websocket.CloseProtocolError, fmt.Sprintf(format, args...)}
}

// validCloseCode reports whether an endpoint may send code in a Close frame
// (RFC 6455 §7.4 and IANA's registry of close codes).
func ValidCloseCode(code int) bool {
	switch {
	case code >= 3000 && code <= 4999:
		return true
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014:
		return true
	}
	return false
}

// closePayload is the payload of a Close frame; 1005 stands for an empty one,
// since it may not be sent.
func ClosePayload(code int, reason string) []byte {
	return websocket.FormatCloseMessage(code, reason)
}

// A peerCloseError is the client's Close frame.
type PeerClose struct {
	Code   int // 1005: none
	Reason string
}

func (e *PeerClose) Error() string { return fmt.Sprintf("client closed: %d %s", e.Code, e.Reason) }

// parseClose parses the payload of a Close frame (RFC 6455 §5.5.1). It always
// returns an error: a peerCloseError, or a closeError if the frame breaks a rule.
func ParseClose(payload []byte) error {
	switch len(payload) {
	case 0:
		return &PeerClose{Code: websocket.CloseNoStatusReceived}
	case 1:
		return ProtocolError("close frame with half a code")
	}
	code := int(binary.BigEndian.Uint16(payload))
	if !ValidCloseCode(code) {
		return ProtocolError("close code %d", code)
	}
	if !utf8.Valid(payload[2:]) {
		return ErrInvalidUTF8
	}
	return &PeerClose{code, string(payload[2:])}
}
