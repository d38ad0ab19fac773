package origin

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// A Pattern is one entry of allowed_origins.
type Pattern struct {
	kind kind
	// For a tuple: what the parts must be equal to. With anyHost there is no host,
	// with anySubdomain it lacks the label that "*." leaves open, and with anyPort
	// there is no port.
	Origin
	anyHost, anySubdomain, anyPort bool
	// For a verbatim entry: what the header must be equal to.
	verbatim string
}

type kind byte

const (
	kindTuple    kind = iota // scheme://host[:port]
	kindVerbatim             // scheme://[host[:port]][/path], as non-browser clients send it
	kindAny                  // *
	kindSelf                 // self
	kindNull                 // null
)

// matches reports whether the pattern allows a request with the given Origin
// header that was made to self.
func (p Pattern) matches(header string, self Origin) bool {
	switch p.kind {
	case kindAny:
		return true
	case kindNull:
		return header == "null"
	case kindVerbatim:
		return header == p.verbatim
	case kindTuple, kindSelf:
	}
	o, err := Parse(header)
	if err != nil {
		return false
	}
	if p.kind == kindSelf {
		return o == self
	}
	host := o.host
	switch {
	case p.anyHost:
		host = p.host
	case p.anySubdomain:
		label, parent, _ := strings.Cut(host, ".")
		if label == "" {
			return false
		}
		host = parent
	}
	return o.scheme == p.scheme && host == p.host && (p.anyPort || o.port == p.port)
}

// parsePattern parses an entry of allowed_origins. Its errors name the
// rule and, where the intent is plain, the spelling to use instead.
func parsePattern(s string) (Pattern, error) {
	p, err := parseEntry(s)
	if err == nil {
		return p, nil
	}
	repaired := repair(s)
	if _, stillWrong := parseEntry(repaired); stillWrong != nil {
		return p, err
	}
	return p, fmt.Errorf("%w: write '%s'", err, repaired)
}

func parseEntry(s string) (Pattern, error) {
	switch s {
	case "*":
		return Pattern{kind: kindAny}, nil
	case "self":
		return Pattern{kind: kindSelf}, nil
	case "null":
		return Pattern{kind: kindNull}, nil
	}
	return parseLocation(s)
}

// parseLocation parses an entry that is not a keyword.
func parseLocation(s string) (Pattern, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	switch {
	case !ok:
		return Pattern{}, errors.New("an origin is scheme://host[:port], 'self', 'null' or '*'")
	case !validScheme(scheme):
		return Pattern{}, errScheme
	case rest == "" && defaultPort(scheme) == "", strings.Contains(rest, "/"):
		return parseVerbatim(s, scheme, rest)
	}
	var p Pattern
	authority, anyPort := strings.CutSuffix(rest, ":*")
	p.anyPort = anyPort
	if authority == "*" && defaultPort(scheme) == "" {
		p.scheme, p.anyHost = strings.ToLower(scheme), true
		return p, nil
	}
	authority, p.anySubdomain = strings.CutPrefix(authority, "*.")
	if strings.Contains(authority, "*") {
		return p, errWildcard
	}
	var err error
	if p.Origin, err = Parse(scheme + "://" + authority); err != nil {
		return p, err
	}
	if p.anySubdomain && isAddress(p.host) {
		return p, errors.New("an IP address has no subdomains")
	}
	if p.anyPort {
		if _, port, _ := splitAuthority(authority); port != "" {
			return p, errors.New("the port is a number or '*', not both")
		}
	}
	return p, nil
}

// parseVerbatim parses an entry without a host or with a path. No browser sends
// such an origin, but other clients do.
func parseVerbatim(s, scheme, rest string) (Pattern, error) {
	p := Pattern{kind: kindVerbatim, verbatim: s}
	authority, path, _ := strings.Cut(rest, "/")
	if strings.Contains(rest, "*") {
		return p, errWildcard
	}
	if authority != "" || defaultPort(scheme) != "" {
		if _, _, err := splitAuthority(authority); err != nil {
			return p, err
		}
	}
	if err := checkSeparators(path); err != nil {
		return p, err
	}
	for i := range len(path) {
		if path[i] <= ' ' || path[i] > '~' {
			return p, fmt.Errorf("path '/%s' has a character that URLs don't have", path)
		}
	}
	return p, nil
}

// isAddress reports whether browsers take host for an IP address: in brackets,
// or with a number for its last label.
func isAddress(host string) bool {
	_, err := strconv.ParseUint(host[strings.LastIndexByte(host, '.')+1:], 10, 64)
	return host[0] == '[' || err == nil
}

// repair makes an origin of what people write for one: a host name, the
// URL of a page or a socket, a host name that isn't ASCII.
func repair(s string) string {
	switch lower := strings.ToLower(s); lower {
	case "self", "null":
		return lower
	}
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		if !strings.ContainsAny(s, ".:") && !strings.HasPrefix(s, "localhost") {
			return s // it could be anything
		}
		scheme, rest = "https", s
	}
	switch strings.ToLower(scheme) {
	case "ws":
		scheme = "http"
	case "wss":
		scheme = "https"
	}
	if i := strings.IndexAny(rest, "/?#"); i >= 0 && defaultPort(scheme) != "" {
		rest = rest[:i]
	}
	rest = rest[strings.LastIndexByte(rest, '@')+1:]
	if strings.HasPrefix(rest, ".") {
		rest = "*" + rest
	}
	wildcard := ""
	if parent, ok := strings.CutPrefix(rest, "*."); ok {
		wildcard, rest = "*.", parent
	}
	host, port, hasPort := strings.Cut(rest, ":")
	if ascii, err := idna.Lookup.ToASCII(host); err == nil {
		host = ascii
	}
	if hasPort {
		port = ":" + port
	}
	return scheme + "://" + wildcard + host + port
}
