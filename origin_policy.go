package caddywebsocket

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// An originPolicy decides which origins may open a socket.
type originPolicy struct {
	patterns []originPattern
	// templates are entries with placeholders, parsed anew for each request.
	templates []string
	any       bool // whether all origins may
	required  bool // whether a request must have one
	// nonBrowser are the entries that no browser sends, where what browsers send in
	// their place is not listed.
	nonBrowser []nonBrowserOrigin
}

// A nonBrowserOrigin is an entry that only other clients send.
type nonBrowserOrigin struct{ entry, browsersSend string }

// newOriginPolicy parses the entries of allowed_origins.
func newOriginPolicy(entries []string, required bool) (originPolicy, error) {
	policy := originPolicy{any: len(entries) == 0, required: required}
	for _, entry := range entries {
		if hasPlaceholder(entry) {
			policy.templates = append(policy.templates, entry)
			continue
		}
		p, err := parseOriginPattern(entry)
		if err != nil {
			return policy, fmt.Errorf("allowed_origins '%s': %w", entry, err)
		}
		policy.patterns = append(policy.patterns, p)
		if browsersSend := p.browserSpelling(entry); browsersSend != "" && !slices.Contains(entries, browsersSend) {
			policy.nonBrowser = append(policy.nonBrowser, nonBrowserOrigin{entry, browsersSend})
		}
	}
	return policy, nil
}

// browserSpelling is what browsers send in the place of the origin that p was
// parsed from, and "" if they may send that or nothing like it.
func (p originPattern) browserSpelling(s string) string {
	scheme, _, _ := strings.Cut(s, "://")
	if defaultPort(scheme) == "" || p.kind == originTuple && (p.scheme == "http" || p.scheme == "https") {
		return ""
	}
	return repairOrigin(s)
}

// allows reports whether the Origin headers of a request made to self pass.
func (p originPolicy) allows(headers []string, self origin, repl *caddy.Replacer) bool {
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
		pattern, err := parseOriginPattern(repl.ReplaceAll(template, ""))
		if err == nil && pattern.matches(headers[0], self) {
			return true
		}
	}
	return false
}

func hasPlaceholder(s string) bool {
	return strings.Contains(s, "{") && strings.Contains(s, "}")
}
