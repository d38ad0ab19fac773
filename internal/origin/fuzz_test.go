package origin

import (
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

func FuzzOrigin(f *testing.F) {
	for _, test := range patternTests {
		for _, header := range append(test.yes, test.no...) {
			f.Add(test.pattern, header, test.secure, test.host)
		}
	}
	for _, test := range refusals {
		f.Add(test.entry, test.entry, true, test.entry)
		f.Add(test.entry, "https://example.com:8443", true, "example.com")
	}
	f.Fuzz(func(t *testing.T, entry, header string, secure bool, host string) {
		pattern, err := parsePattern(entry)
		if err != nil {
			if _, spelling, ok := strings.Cut(err.Error(), ": write '"); ok && !strings.Contains(entry, "'") {
				if _, err := parsePattern(strings.TrimSuffix(spelling, "'")); err != nil {
					t.Errorf("%q: %q is suggested, but %v", entry, spelling, err)
				}
			}
			return
		}
		got := pattern.matches(header, Of(secure, host))
		if want := slowMatch(entry, header, secure, host); got != want {
			t.Errorf("%q in a request to %q (TLS %t): %q is allowed: %t, want %t", entry, host, secure, header, got, want)
		}
		if _, rest, _ := strings.Cut(header, "://"); got && entry != "*" && entry != header && strings.ContainsAny(rest, "/ ,") {
			t.Errorf("%q allows %q", entry, header)
		}
	})
}

// FuzzOriginTemplate puts any value in the place of a placeholder. That never
// allows more than the one origin that it spells out, but for what the wildcards
// around it allow.
func FuzzOriginTemplate(f *testing.F) {
	for _, value := range []string{"", "acme", "*", "*.example.com", "example.com:*", "self", "null", "https://example.com", "evil.example#", "a/b"} {
		f.Add("https://", value, "", "https://example.com")
		f.Add("https://", value, ".example.com", "https://acme.example.com")
		f.Add("https://*.", value, "", "https://a.example.com:1")
		f.Add("", value, "", "null")
		f.Add("", value, "://*", "app://x")
		f.Add("http://localhost:", value, "", "http://localhost:3000")
	}
	f.Fuzz(func(t *testing.T, before, value, after, header string) {
		if strings.ContainsAny(before+after, `{}\`) || header == "" {
			return
		}
		policy, err := NewPolicy([]string{before + "{value}" + after}, false)
		if err != nil {
			t.Fatal(err)
		}
		values := caddy.NewEmptyReplacer()
		values.Set("value", value)
		got := policy.Allows([]string{header}, func() Origin { return Of(true, "self.example") }, values)
		location := before + value + after
		if _, err := parseLocation(location); err != nil || strings.Contains(value, "*") {
			if got {
				t.Errorf("%q with %q allows %q", before+"{}"+after, value, header)
			}
			return
		}
		if want := slowMatch(location, header, true, "self.example"); got != want {
			t.Errorf("%q with %q: %q is allowed: %t, want %t", before+"{}"+after, value, header, got, want)
		}
	})
}

// slowMatch is what Pattern.matches must say of an entry. It puts what the
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
	scheme, rest, _ := strings.Cut(entry, "://")
	if rest == "" || strings.Contains(rest, "/") {
		return header == entry
	}
	m := serializedOrigin.FindStringSubmatch(header)
	if m == nil {
		return false
	}
	if rest == "*" || rest == "*:*" {
		entry = scheme + "://" + m[2] + strings.TrimPrefix(rest, "*")
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
	switch scheme + port {
	case "http:80", "ws:80", "https:443", "wss:443":
		port = ""
	}
	return scheme + "://" + host + port
}
