package caddywebsocket

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// An originPattern is one entry of allowed_origins.
type originPattern struct {
	kind originKind
	// For a tuple: what the parts must be equal to. With anySubdomain the host
	// stands without the label that "*." leaves open; with anyPort port is "".
	origin
	anySubdomain, anyPort bool
}

type originKind byte

const (
	originTuple originKind = iota // scheme://host[:port]
	originAny                     // *
	originSelf                    // self
	originNull                    // null
)

// matches reports whether the pattern allows a request with the given Origin
// header that was made to self.
func (p originPattern) matches(header string, self origin) bool {
	switch p.kind {
	case originAny:
		return true
	case originNull:
		return header == "null"
	case originTuple, originSelf:
	}
	o, err := parseOrigin(header)
	if err != nil {
		return false
	}
	if p.kind == originSelf {
		return o == self
	}
	host := o.host
	if p.anySubdomain {
		label, parent, _ := strings.Cut(host, ".")
		if label == "" {
			return false
		}
		host = parent
	}
	return o.scheme == p.scheme && host == p.host && (p.anyPort || o.port == p.port)
}

// parseOriginPattern parses an entry of allowed_origins. Its errors name the
// rule and, where the intent is plain, the spelling to use instead.
func parseOriginPattern(s string) (originPattern, error) {
	p, err := parsePattern(s)
	if err == nil {
		return p, nil
	}
	repaired := repairOrigin(s)
	if _, stillWrong := parsePattern(repaired); stillWrong != nil {
		return p, err
	}
	return p, fmt.Errorf("%w: write '%s'", err, repaired)
}

func parsePattern(s string) (originPattern, error) {
	switch s {
	case "*":
		return originPattern{kind: originAny}, nil
	case "self":
		return originPattern{kind: originSelf}, nil
	case "null":
		return originPattern{kind: originNull}, nil
	}
	var p originPattern
	scheme, authority, ok := strings.Cut(s, "://")
	if !ok {
		return p, errors.New("an origin is scheme://host[:port], 'self', 'null' or '*'")
	}
	if strings.EqualFold(scheme, "ws") || strings.EqualFold(scheme, "wss") {
		return p, errors.New("an origin is that of the page, which is not on a socket's scheme")
	}
	authority, p.anySubdomain = strings.CutPrefix(authority, "*.")
	authority, p.anyPort = strings.CutSuffix(authority, ":*")
	if strings.Contains(authority, "*") {
		return p, errors.New("a wildcard stands for the first label, as in 'https://*.example.com', " +
			"for the port, as in 'http://localhost:*', or alone for any origin")
	}
	o, err := parseOrigin(scheme + "://" + authority)
	if err != nil {
		return p, err
	}
	if p.anySubdomain && isAddress(o.host) {
		return p, errors.New("an IP address has no subdomains")
	}
	if p.anyPort {
		if _, port, _ := splitAuthority(authority); port != "" {
			return p, errors.New("the port is a number or '*', not both")
		}
	}
	p.origin = o
	return p, nil
}

// isAddress reports whether browsers take host for an IP address: in brackets,
// or with a number for its last label.
func isAddress(host string) bool {
	_, err := strconv.ParseUint(host[strings.LastIndexByte(host, '.')+1:], 10, 64)
	return host[0] == '[' || err == nil
}

// repairOrigin makes an origin of what people write for one: a host name, the
// URL of a page or a socket, a host name that isn't ASCII.
func repairOrigin(s string) string {
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
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
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

// An originPolicy decides which origins may open a socket.
type originPolicy struct {
	patterns []originPattern
	// templates are entries with placeholders, parsed anew for each request.
	templates []string
	any       bool // whether all origins may
	required  bool // whether a request must have one
}

// newOriginPolicy parses the entries of allowed_origins.
func newOriginPolicy(entries []string, required bool) (originPolicy, error) {
	policy := originPolicy{any: len(entries) == 0, required: required}
	for _, entry := range entries {
		if strings.Contains(entry, "{") && strings.Contains(entry, "}") {
			policy.templates = append(policy.templates, entry)
			continue
		}
		p, err := parseOriginPattern(entry)
		if err != nil {
			return policy, fmt.Errorf("allowed_origins '%s': %w", entry, err)
		}
		policy.patterns = append(policy.patterns, p)
	}
	return policy, nil
}

// allows reports whether the Origin headers of a request made to self pass.
// expand replaces the placeholders of a template.
func (p originPolicy) allows(headers []string, self origin, expand func(string) string) bool {
	switch {
	case len(headers) > 1:
		return false
	case len(headers) == 0 || headers[0] == "":
		return !p.required
	case p.any:
		return true
	}
	for _, pattern := range p.patterns {
		if pattern.matches(headers[0], self) {
			return true
		}
	}
	for _, template := range p.templates {
		pattern, err := parseOriginPattern(expand(template))
		if err == nil && pattern.matches(headers[0], self) {
			return true
		}
	}
	return false
}
