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

const DeflateExtension = "permessage-deflate"

// An extension is one element of Sec-WebSocket-Extensions (RFC 6455 §9.1).
type Extension struct {
	Name   string
	params []extensionParam
}

type extensionParam struct {
	name, value string
	hasValue    bool
}

// parseExtensions parses a list of extensions, over all headers that carry it.
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

// parseExtension parses the extension that s starts with.
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

// cutToken cuts a token and the white space around it off the front of s.
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

// cutValue is cutToken for a parameter's value, which may be quoted if what is
// between the quotes is a token.
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
	return "", "", errors.New("quote without an end")
}

// acceptsDeflate reports whether the client offers permessage-deflate in a form
// that can be kept here.
func AcceptsDeflate(h http.Header) bool {
	extensions, _ := ParseExtensions(h["Sec-Websocket-Extensions"])
	for _, e := range extensions {
		if e.Name == DeflateExtension && validDeflateOffer(e.params) {
			return true
		}
	}
	return false
}

// validDeflateOffer checks the parameters of an offer (RFC 7692 §7.1). One that
// asks for a smaller window of the server is not for this server: Go's deflater
// always uses the largest.
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
		default: // server_max_window_bits among them
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

// withoutDeflate takes permessage-deflate out of a client's offer. What is left of
// it stays as it is spelled, also what is no extension at all.
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
