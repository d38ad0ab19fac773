package ws

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/net/http/httpguts"
)

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
