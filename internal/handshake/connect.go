package handshake

import "net/http"

// connectProtocol returns the protocol that an Extended CONNECT (RFC 8441 §4,
// RFC 9220 §3) asks for. Go's HTTP/2 server leaves it among the header fields,
// whatever the method is, and quic-go puts it in the place of the HTTP version.
func connectProtocol(r *http.Request) (protocol string, ok bool) {
	switch r.ProtoMajor {
	case 2:
		if values := r.Header[":protocol"]; len(values) > 0 {
			return values[0], true
		}
	case 3:
		if r.Method == http.MethodConnect && r.Proto != "HTTP/3.0" {
			return r.Proto, true
		}
	}
	return "", false
}

// CheckConnect refuses an Extended CONNECT for another protocol than WebSocket, and
// a request that has :protocol with another method. No handler of Caddy's can serve
// either: on HTTP/2 reverse_proxy takes it for a failure of the upstream, and on
// HTTP/3 it sends the upstream a CONNECT with the client's bytes behind it.
func CheckConnect(r *http.Request) error {
	protocol, ok := connectProtocol(r)
	switch {
	case !ok:
		return nil
	case r.Method != http.MethodConnect:
		return Refusal(http.StatusBadRequest, "method is %s, not CONNECT, with :protocol %q", r.Method, protocol)
	case protocol != "websocket":
		return Refusal(http.StatusNotImplemented, "protocol is %q, not websocket", protocol) // RFC 9220 §3
	}
	return nil
}

// hasContent reports whether a handshake has, or announces, content.
func hasContent(r *http.Request) bool {
	if r.ProtoMajor == 1 {
		return r.ContentLength != 0
	}
	// An Extended CONNECT must not have a length, not even 0, which on HTTP/2 it also
	// has when its stream ended with the header.
	return r.ContentLength >= 0 || r.Context().Value(lengthCtxKey) != nil
}
