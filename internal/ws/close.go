package ws

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

// A CloseError is the error for which an endpoint closes a socket. Code and Reason
// are those of the Close frame to send (RFC 6455 §7.1.7).
type CloseError struct {
	Code   int    // a close code (RFC 6455 §7.4.1)
	Reason string // at most 123 bytes of UTF-8
}

func (e *CloseError) Error() string { return fmt.Sprintf("close %d: %s", e.Code, e.Reason) }

// protocolError returns a CloseError with code 1002.
func protocolError(format string, args ...any) error {
	return &CloseError{websocket.CloseProtocolError, fmt.Sprintf(format, args...)}
}

// ErrInvalidUTF8 is the error for text that is not UTF-8 (RFC 6455 §8.1).
var ErrInvalidUTF8 = &CloseError{websocket.CloseInvalidFramePayloadData, "text that is not UTF-8"}

// ValidCloseCode reports whether an endpoint may send code in a Close frame
// (RFC 6455 §7.4 and IANA's WebSocket Close Code Number Registry).
func ValidCloseCode(code int) bool {
	switch {
	case code >= 3000 && code <= 4999:
		return true
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014:
		return true
	}
	return false
}

// ClosePayload returns the payload of a Close frame (RFC 6455 §5.5.1). It is empty
// for code 1005, which stands for a frame without a code and is never sent.
func ClosePayload(code int, reason string) []byte {
	return websocket.FormatCloseMessage(code, reason)
}

// A PeerCloseError is the error that a read ends with when the peer sent a valid Close
// frame.
type PeerCloseError struct {
	Code   int // 1005 if the frame has none (RFC 6455 §7.1.5)
	Reason string
	// Invalid says which rule the frame breaks, if any. Only a Scanner sets it.
	Invalid string
}

func (e *PeerCloseError) Error() string {
	return fmt.Sprintf("closed by the peer: %d %s", e.Code, e.Reason)
}

// ParseClose parses the payload of a Close frame (RFC 6455 §5.5.1). It always
// returns an error: a [*PeerCloseError], or a [*CloseError] if the payload is invalid.
func ParseClose(payload []byte) error {
	switch len(payload) {
	case 0:
		return &PeerCloseError{Code: websocket.CloseNoStatusReceived}
	case 1:
		return protocolError("close frame with half a code")
	}
	code := int(binary.BigEndian.Uint16(payload))
	if !ValidCloseCode(code) {
		return protocolError("close code %d", code)
	}
	if !utf8.Valid(payload[2:]) {
		return ErrInvalidUTF8
	}
	return &PeerCloseError{Code: code, Reason: string(payload[2:])}
}

// closeAsSent is ParseClose for a frame that passes whether or not it breaks a rule.
func closeAsSent(payload []byte) PeerCloseError {
	err := ParseClose(payload)
	if valid, ok := errors.AsType[*PeerCloseError](err); ok {
		return *valid
	}
	sent := PeerCloseError{Code: websocket.CloseNoStatusReceived, Invalid: err.Error()}
	if broken, ok := errors.AsType[*CloseError](err); ok {
		sent.Invalid = broken.Reason
	}
	if len(payload) >= 2 {
		sent.Code, sent.Reason = int(binary.BigEndian.Uint16(payload)), string(payload[2:])
	}
	return sent
}
