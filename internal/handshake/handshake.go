// Package handshake recognizes WebSocket handshakes on HTTP/1.1, HTTP/2 and HTTP/3, refuses
// those that are malformed, and computes the key of the answer.
package handshake

import (
	"crypto/sha1" //nolint:gosec // RFC 6455 demands it
	"encoding/base64"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"golang.org/x/net/http/httpguts"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
)

// Is reports whether r attempts a WebSocket handshake: an upgrade on
// HTTP/1.1 (RFC 6455 §4.1), Extended CONNECT on HTTP/2 (RFC 8441 §4) and HTTP/3
// (RFC 9220 §3).
func Is(r *http.Request) bool {
	if r.ProtoMajor == 1 {
		return httpguts.HeaderValuesContainsToken(r.Header["Connection"], "upgrade") &&
			httpguts.HeaderValuesContainsToken(r.Header["Upgrade"], "websocket")
	}
	protocol, ok := connectProtocol(r)
	return ok && r.Method == http.MethodConnect && protocol == "websocket"
}

// Check refuses an attempted handshake that two servers could read
// differently, and, if the socket is to be echoed, whatever breaks RFC 6455 §4.2.1. In passthrough the
// rest is the application's to judge. The error carries the status of the answer,
// for which answer gets the headers.
func Check(answer http.Header, r *http.Request, echo bool) error {
	if r.ProtoMajor == 1 {
		if r.Method != http.MethodGet {
			answer.Set("Allow", http.MethodGet)
			return Refusal(http.StatusMethodNotAllowed, "method is %s, not GET", r.Method)
		}
		if r.ProtoMinor < 1 {
			return Refusal(http.StatusBadRequest, "HTTP version is 1.0, not 1.1 or higher")
		}
		for _, name := range handshakeFields {
			if httpguts.HeaderValuesContainsToken(r.Header["Connection"], name) {
				return Refusal(http.StatusBadRequest, "Connection names %s, which a proxy would remove for that", name)
			}
		}
	}
	if hasContent(r) {
		if r.ProtoMajor == 1 {
			answer.Set("Connection", "close") // or the server would wait for the body
		}
		return Refusal(http.StatusBadRequest, "request has a body or a length")
	}
	if echo {
		return checkEchoHandshake(answer, r)
	}
	for _, name := range []string{"Sec-WebSocket-Key", "Sec-WebSocket-Version"} {
		if values := r.Header[http.CanonicalHeaderKey(name)]; len(values) > 1 {
			return Refusal(http.StatusBadRequest, "%s is given more than once: %q", name, values)
		}
	}
	return nil
}

// handshakeFields are the fields of a handshake that are meant for the server at
// its end. A client must not name them in Connection, and a proxy removes what is
// named there (RFC 9110 §7.6.1): the server behind it would see another handshake
// than the one that is checked here.
var handshakeFields = []string{
	"Host", "Origin", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions",
}

// checkEchoHandshake checks what the server that accepts a socket has to.
func checkEchoHandshake(answer http.Header, r *http.Request) error {
	if version := r.Header["Sec-Websocket-Version"]; len(version) != 1 || version[0] != "13" {
		answer["Sec-WebSocket-Version"] = []string{"13"}
		if r.ProtoMajor == 1 { // RFC 9110 §15.5.22; other versions forbid it
			answer.Set("Connection", "Upgrade")
			answer.Set("Upgrade", "websocket")
		}
		return Refusal(http.StatusUpgradeRequired, "Sec-WebSocket-Version is %q, not 13", version)
	}
	if r.ProtoMajor == 1 {
		key := r.Header["Sec-Websocket-Key"]
		if len(key) != 1 || !validKey(key[0]) {
			return Refusal(http.StatusBadRequest, "Sec-WebSocket-Key is %q, not 16 bytes in base64", key)
		}
	}
	if _, err := offeredSubprotocols(r.Header); err != nil {
		return Refusal(http.StatusBadRequest, "Sec-WebSocket-Protocol: %v", err)
	}
	if _, err := ws.ParseExtensions(r.Header["Sec-Websocket-Extensions"]); err != nil {
		return Refusal(http.StatusBadRequest, "Sec-WebSocket-Extensions: %v", err)
	}
	return nil
}

// Refusal is an error that answers a handshake with status.
func Refusal(status int, format string, args ...any) error {
	return caddyhttp.Error(status, fmt.Errorf("refusing handshake: "+format, args...))
}

func validKey(key string) bool {
	if len(key) != base64.StdEncoding.EncodedLen(16) {
		return false
	}
	var decoded [18]byte // room for what 24 characters decode to without padding
	n, err := base64.StdEncoding.Decode(decoded[:], []byte(key))
	return err == nil && n == 16
}

// keyGUID is what a server appends to the client's key before it is hashed (RFC 6455 §1.3).
const keyGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// AcceptKey returns the value of Sec-WebSocket-Accept that answers a key (RFC 6455 §4.2.2).
func AcceptKey(key string) string {
	sum := sha1.Sum([]byte(key + keyGUID)) //nolint:gosec // RFC 6455 demands it
	return base64.StdEncoding.EncodeToString(sum[:])
}

// offeredSubprotocols lists what the client offers, in its order of preference.
// Several headers are one list (RFC 6455 §11.3.4).
func offeredSubprotocols(h http.Header) ([]string, error) {
	names := ws.ListElements(h["Sec-Websocket-Protocol"])
	seen := make(map[string]bool, len(names))
	for _, name := range names {
		if !httpguts.ValidHeaderFieldName(name) { // a token, as a field name is
			return nil, fmt.Errorf("%q is not a token", name)
		}
		if seen[name] {
			return nil, fmt.Errorf("%q is given more than once", name)
		}
		seen[name] = true
	}
	return names, nil
}
