package caddywebsocket

import (
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

const site = "https://example.com"

// originPolicyTests are policies and what they make of headers.
var originPolicyTests = []struct {
	name     string
	entries  []string
	required bool
	headers  []string
	want     bool
}{
	{"any origin by default", nil, false, []string{site}, true},
	{"anything by default", nil, false, []string{"anything"}, true},
	{"null by default", nil, false, []string{"null"}, true},
	{"no header by default", nil, false, nil, true},
	{"empty header by default", nil, false, []string{""}, true},
	{"two headers by default", nil, false, []string{site, site}, false},
	{"two empty headers by default", nil, false, []string{"", ""}, false},

	{"required and there", nil, true, []string{site}, true},
	{"required and null", nil, true, []string{"null"}, true},
	{"required and missing", nil, true, nil, false},
	{"required and empty", nil, true, []string{""}, false},
	{"required and twice", nil, true, []string{site, site}, false},

	{"listed", []string{site}, false, []string{site}, true},
	{"listed first", []string{site, "https://example.org"}, false, []string{site}, true},
	{"listed second", []string{"https://example.org", site}, false, []string{site}, true},
	{"not listed", []string{"https://example.org", "null"}, false, []string{site}, false},
	{"listed, no header", []string{site}, false, nil, true},
	{"listed, empty header", []string{site}, false, []string{""}, true},
	{"listed, two headers", []string{site}, false, []string{site, site}, false},
	{"listed, two origins in a header", []string{site}, false, []string{site + ", " + site}, false},
	{"listed and required", []string{site}, true, []string{site}, true},
	{"listed and required, no header", []string{site}, true, nil, false},
	{"null is not listed", []string{site}, false, []string{"null"}, false},

	{"asterisk", []string{"*"}, false, []string{site}, true},
	{"asterisk, no header", []string{"*"}, false, nil, true},
	{"asterisk, required, no header", []string{"*"}, true, nil, false},
	{"asterisk, two headers", []string{"*"}, false, []string{site, site}, false},

	{"self", []string{"self"}, false, []string{"https://site.example:8443"}, true},
	{"not self", []string{"self"}, false, []string{site}, false},

	{"template", []string{"https://{tenant}.example.com"}, false, []string{"https://acme.example.com"}, true},
	{"template, another", []string{"https://{tenant}.example.com"}, false, []string{"https://evil.example.com"}, false},
	{"template, no header", []string{"https://{tenant}.example.com"}, false, nil, true},
	{"template, required, no header", []string{"https://{tenant}.example.com"}, true, nil, false},
	{"template with a wildcard", []string{"https://*.{domain}:*"}, false, []string{"https://a.example.com:1"}, true},
	{"template beside a pattern", []string{"https://{tenant}.example.com", site}, false, []string{site}, true},
	{"template before a template", []string{"{origin}", "{empty}"}, false, []string{site}, true},
	{"template after a template", []string{"{empty}", "{origin}"}, false, []string{site}, true},
	{"template of a whole origin", []string{"{origin}"}, false, []string{site}, true},
	{"template that becomes self", []string{"{word}"}, false, []string{"https://site.example:8443"}, true},
	{"template that becomes nothing", []string{"{empty}"}, false, []string{site}, false},
	{"template that becomes nothing, null", []string{"{empty}"}, false, []string{"null"}, false},
	{"template of no value", []string{"{unknown}"}, false, []string{site}, false},
	{"template of no host", []string{"https://{unknown}"}, false, []string{"https://"}, false},
	{"template that becomes a path", []string{"https://example.com{path}"}, false, []string{site}, false},
	{"template that becomes that very path", []string{"https://example.com{path}"}, false, []string{site + "/path"}, false},
	{"template that becomes a list", []string{"{list}"}, false, []string{site}, false},
	{"template of no scheme", []string{"{domain}"}, false, []string{site}, false},
}

func TestOriginPolicy(t *testing.T) {
	values := caddy.NewEmptyReplacer()
	for name, value := range map[string]string{
		"tenant": "acme", "domain": "example.com", "origin": site, "word": "self", "empty": "",
		"path": "/path", "list": site + " https://example.org",
	} {
		values.Set(name, value)
	}
	expand := func(s string) string { return values.ReplaceAll(s, "") }
	self := requestOrigin(true, "site.example:8443")
	for _, test := range originPolicyTests {
		policy, err := newOriginPolicy(test.entries, test.required)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if got := policy.allows(test.headers, self, expand); got != test.want {
			t.Errorf("%s: allowed is %t, want %t", test.name, got, test.want)
		}
	}
}

func TestOriginPolicyNamesTheEntry(t *testing.T) {
	_, err := newOriginPolicy([]string{"self", "{placeholder}", "example.com"}, false)
	const want = "allowed_origins 'example.com': " + formRule + ": write 'https://example.com'"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func FuzzOrigin(f *testing.F) {
	for _, test := range originTests {
		for _, header := range append(test.yes, test.no...) {
			f.Add(test.pattern, header, test.secure, test.host)
		}
	}
	for _, test := range originRefusals {
		f.Add(test.entry, test.entry, true, test.entry)
		f.Add(test.entry, "https://example.com:8443", true, "example.com")
	}
	f.Fuzz(func(t *testing.T, entry, header string, secure bool, host string) {
		pattern, err := parseOriginPattern(entry)
		if err != nil {
			if _, spelling, ok := strings.Cut(err.Error(), ": write '"); ok && !strings.Contains(entry, "'") {
				if _, err := parseOriginPattern(strings.TrimSuffix(spelling, "'")); err != nil {
					t.Errorf("%q: %q is suggested, but %v", entry, spelling, err)
				}
			}
			return
		}
		got := pattern.matches(header, requestOrigin(secure, host))
		if want := slowMatch(entry, header, secure, host); got != want {
			t.Errorf("%q in a request to %q (TLS %t): %q is allowed: %t, want %t", entry, host, secure, header, got, want)
		}
		if _, rest, _ := strings.Cut(header, "://"); got && entry != "*" && strings.ContainsAny(rest, "/ ,") {
			t.Errorf("%q allows %q", entry, header)
		}
	})
}

// slowMatch is what originPattern.matches must say of an entry. It puts what the
// header has in the place of a wildcard; then both must be the same origin.
func slowMatch(entry, header string, secure bool, host string) bool {
	switch entry {
	case "*":
		return true
	case "null":
		return header == "null"
	case "self":
		if secure {
			return sameOrigin("https://"+host, header)
		}
		return sameOrigin("http://"+host, header)
	}
	m := serializedOrigin.FindStringSubmatch(header)
	if m == nil {
		return false
	}
	if strings.Contains(entry, "://*.") {
		label, _, _ := strings.Cut(m[2], ".")
		if label == "" {
			return false
		}
		entry = strings.Replace(entry, "://*.", "://"+label+".", 1)
	}
	if host, ok := strings.CutSuffix(entry, ":*"); ok {
		entry = host + m[3]
	}
	return sameOrigin(entry, header)
}

var serializedOrigin = regexp.MustCompile(
	`^([A-Za-z][A-Za-z0-9+.-]*)://(\.|[A-Za-z0-9_-][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(:[1-9][0-9]{0,4})?$`)

// sameOrigin reports whether a and b are spellings of one origin.
func sameOrigin(a, b string) bool {
	a, b = canonical(a), canonical(b)
	return a == b && a != ""
}

// canonical gives one spelling for all that an origin has, and "" if it is none.
func canonical(s string) string {
	m := serializedOrigin.FindStringSubmatch(s)
	if m == nil {
		return ""
	}
	scheme, host, port := strings.ToLower(m[1]), strings.ToLower(m[2]), m[3]
	if host[0] == '[' {
		ip := net.ParseIP(strings.Trim(host, "[]"))
		if ip == nil || !strings.Contains(host, ":") {
			return ""
		}
		host = "[" + string(ip.To16()) + "]"
	}
	if port != "" {
		if n, _ := strconv.Atoi(port[1:]); n > 65535 {
			return ""
		}
	}
	if scheme == "http" && port == ":80" || scheme == "https" && port == ":443" {
		port = ""
	}
	return scheme + "://" + host + port
}
