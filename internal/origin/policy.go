package origin

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// A Policy decides which origins may open a socket.
type Policy struct {
	patterns []Pattern
	// templates are entries with placeholders, parsed anew for each request.
	templates []string
	any       bool // whether all origins may
	required  bool // whether a request must have one
	// NonBrowser are the entries that no browser sends, where what browsers send in
	// their place is not listed.
	NonBrowser []NonBrowser
}

// A NonBrowser is an entry that only other clients send.
type NonBrowser struct{ Entry, BrowsersSend string }

// NewPolicy parses the entries of allowed_origins.
func NewPolicy(entries []string, required bool) (Policy, error) {
	policy := Policy{any: len(entries) == 0, required: required}
	for _, entry := range entries {
		text := entry
		if hasPlaceholder(entry) {
			policy.templates = append(policy.templates, entry)
			if text = expandConfig(entry); text == "" || hasPlaceholder(text) {
				continue
			}
		}
		p, err := parsePattern(text)
		if err != nil {
			return policy, fmt.Errorf("allowed_origins '%s': %w", entry, err)
		}
		if text == entry {
			policy.patterns = append(policy.patterns, p)
		}
		if browsersSend := p.browserSpelling(text); browsersSend != "" && !slices.Contains(entries, browsersSend) {
			policy.NonBrowser = append(policy.NonBrowser, NonBrowser{entry, browsersSend})
		}
	}
	return policy, nil
}

// browserSpelling is what browsers send in the place of the origin that p was
// parsed from, and "" if they may send that or nothing like it.
func (p Pattern) browserSpelling(s string) string {
	scheme, _, _ := strings.Cut(s, "://")
	if defaultPort(scheme) == "" || p.kind == kindTuple && (p.scheme == "http" || p.scheme == "https") {
		return ""
	}
	return repair(s)
}

// Allows reports whether the Origin headers of a request pass. It calls target, which returns
// the origin that the request was made to, only if that matters.
func (p Policy) Allows(headers []string, target func() Origin, repl *caddy.Replacer) bool {
	switch {
	case len(headers) > 1:
		return false
	case len(headers) == 0 || headers[0] == "":
		return !p.required
	case p.any:
		return true
	}
	self := target()
	for _, pattern := range p.patterns {
		if pattern.matches(headers[0], self) {
			return true
		}
	}
	for _, template := range p.templates {
		pattern, err := parseTemplate(template, repl)
		if err == nil && pattern.matches(headers[0], self) {
			return true
		}
	}
	return false
}

// parseTemplate parses an entry after replacing its placeholders. Wildcards
// and keywords have a meaning only in what the config itself says: the value of
// a placeholder may be of the client's choosing.
func parseTemplate(template string, repl *caddy.Replacer) (Pattern, error) {
	text := expandConfig(template)
	if !hasPlaceholder(text) {
		return parsePattern(text)
	}
	location, err := repl.ReplaceFunc(text, func(_ string, value any) (any, error) {
		if strings.Contains(caddy.ToString(value), "*") {
			return nil, errors.New("a placeholder's value has a wildcard")
		}
		return value, nil
	})
	if err != nil {
		return Pattern{}, err
	}
	return parseLocation(location)
}

func hasPlaceholder(s string) bool {
	return strings.Contains(s, "{") && strings.Contains(s, "}")
}

// expandConfig replaces the placeholders whose values are the operator's own:
// {env.*}, {file.*} and {system.*}.
func expandConfig(s string) string { return configReplacer.ReplaceKnown(s, "") }

var configReplacer = caddy.NewReplacer()
