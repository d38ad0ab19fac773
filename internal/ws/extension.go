package ws

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// DeflateExtension is the name of the compression extension (RFC 7692 §7).
const DeflateExtension = "permessage-deflate"

// An Extension is one element of Sec-WebSocket-Extensions (RFC 6455 §9.1).
type Extension struct {
	Name   string
	params []extensionParam
}

type extensionParam struct {
	name, value string
	hasValue    bool
}

// ParseExtensions parses the values of all Sec-WebSocket-Extensions fields of a message,
// which form one list. It returns an error that quotes the first invalid element.
func ParseExtensions(values []string) ([]Extension, error) {
	var extensions []Extension
	for _, element := range ListElements(values) {
		e, rest, err := parseExtension(element)
		if err != nil {
			return nil, err
		}
		if rest != "" {
			return nil, fmt.Errorf("unexpected %q", rest)
		}
		extensions = append(extensions, e)
	}
	return extensions, nil
}

// parseExtension parses the extension at the start of s.
func parseExtension(s string) (e Extension, rest string, err error) {
	if e.Name, rest, err = cutToken(s); err != nil {
		return e, "", err
	}
	for strings.HasPrefix(rest, ";") {
		var p extensionParam
		if p.name, rest, err = cutToken(rest[1:]); err != nil {
			return e, "", err
		}
		if value, ok := strings.CutPrefix(rest, "="); ok {
			p.hasValue = true
			if p.value, rest, err = cutValue(value); err != nil {
				return e, "", err
			}
		}
		e.params = append(e.params, p)
	}
	return e, rest, nil
}

// cutToken cuts a token and the white space around it off the start of s.
func cutToken(s string) (token, rest string, err error) {
	s = strings.TrimLeft(s, " \t")
	end := strings.IndexFunc(s, func(r rune) bool { return !httpguts.IsTokenRune(r) })
	if end < 0 {
		end = len(s)
	}
	if end == 0 {
		return "", "", fmt.Errorf("no token at %q", s)
	}
	return s[:end], strings.TrimLeft(s[end:], " \t"), nil
}

// cutValue is cutToken for the value of a parameter, which may also be a quoted string
// that contains a token (RFC 6455 §9.1).
func cutValue(s string) (value, rest string, err error) {
	s = strings.TrimLeft(s, " \t")
	quoted, ok := strings.CutPrefix(s, `"`)
	if !ok {
		return cutToken(s)
	}
	var unquoted strings.Builder
	for i := 0; i < len(quoted); i++ {
		switch c := quoted[i]; c {
		case '"':
			if !httpguts.ValidHeaderFieldName(unquoted.String()) { // a token, as a field name is
				return "", "", fmt.Errorf("%q is not a token", unquoted.String())
			}
			return unquoted.String(), strings.TrimLeft(quoted[i+1:], " \t"), nil
		case '\\':
			i++
			if i < len(quoted) {
				unquoted.WriteByte(quoted[i])
			}
		default:
			unquoted.WriteByte(c)
		}
	}
	return "", "", errors.New("unterminated quoted string")
}

// AcceptsDeflate reports whether the client, whose handshake request has the header h,
// offers permessage-deflate with parameters that this server can accept.
func AcceptsDeflate(h http.Header) bool {
	extensions, _ := ParseExtensions(h["Sec-Websocket-Extensions"])
	for _, e := range extensions {
		if e.Name == DeflateExtension && validDeflateOffer(e.params) {
			return true
		}
	}
	return false
}

// validDeflateOffer reports whether the parameters of an offer are valid (RFC 7692 §7.1)
// and can be accepted. An offer that limits the server's window can't: Go's deflater always
// uses the largest one.
func validDeflateOffer(params []extensionParam) bool {
	seen := make(map[string]bool, len(params))
	for _, p := range params {
		if seen[p.name] {
			return false
		}
		seen[p.name] = true
		switch p.name {
		case "server_no_context_takeover", "client_no_context_takeover":
			if p.hasValue {
				return false
			}
		case "client_max_window_bits":
			if p.hasValue && !validWindowBits(p.value) {
				return false
			}
		default: // including server_max_window_bits
			return false
		}
	}
	return true
}

// validWindowBits reports whether s is a number from 8 to 15 (RFC 7692 §7.1.2).
func validWindowBits(s string) bool {
	bits, err := strconv.Atoi(s)
	return err == nil && bits >= 8 && bits <= 15 && strconv.Itoa(bits) == s
}

// WithoutDeflate removes permessage-deflate from the extensions that a client offers in
// the header h. All other elements keep their spelling, even if they are invalid.
func WithoutDeflate(h http.Header) {
	const field = "Sec-Websocket-Extensions"
	kept := ListElements(h[field])
	offered := len(kept)
	kept = slices.DeleteFunc(kept, func(element string) bool {
		name, _, _ := strings.Cut(element, ";")
		return strings.EqualFold(strings.Trim(name, " \t"), DeflateExtension)
	})
	switch len(kept) {
	case offered:
	case 0:
		delete(h, field)
	default:
		h[field] = []string{strings.Join(kept, ", ")}
	}
}
