package caddywebsocket

import (
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// originTests are patterns with the Origin headers that they allow and don't,
// in a request to host, with TLS where secure.
var originTests = []struct {
	pattern string
	secure  bool
	host    string
	yes, no []string
}{
	{
		pattern: "https://example.com",
		yes: []string{
			"https://example.com", "https://example.com:443", "HTTPS://example.com", "https://EXAMPLE.com",
		},
		no: []string{
			"http://example.com", "http://example.com:443", "https://example.com:80", "https://example.com:8443",
			"https://example.org", "https://www.example.com", "https://example.com.", "https://.example.com",
			"https://example.com.evil.example", "https://evil-example.com", "https://examplexcom",
			// Whatever stands around an origin makes it another string.
			"https://example.com/", "https://example.com/path", "https://example.com?", "https://example.com#",
			"https://example.com\\", " https://example.com", "https://example.com ", "https://example.com\t",
			"https://user@example.com", "https://user:password@example.com", "https://example.com@evil.example",
			"https://example.com https://example.com", "https://example.com, https://example.com",
			"https://example.com,https://evil.example", "https://evil.example https://example.com",
			"https://example.com\x00", "https://example.com\n", "https://example.com%2f", "https://ex%61mple.com",
			"example.com", "//example.com", "https:example.com", "https:/example.com", "https:///example.com",
			"https://", "https", "://example.com", "", "*", "self", "null", "https://*", "https://*.com",
			"https://example.com:", "https://example.com:0443", "https://example.com:+443", "https://example.com: 443",
			"https://example.com:443:443", "https://example.com:65979", "https://example.com:https",
		},
	},
	{
		pattern: "HTTPS://App.EXAMPLE.com",
		yes:     []string{"https://app.example.com", "https://APP.example.COM", "hTTps://app.example.com:443"},
		no:      []string{"https://example.com", "http://app.example.com"},
	},
	{
		pattern: "https://example.com:443",
		yes:     []string{"https://example.com", "https://example.com:443"},
		no:      []string{"http://example.com", "http://example.com:443", "https://example.com:4433"},
	},
	{
		pattern: "http://example.com",
		yes:     []string{"http://example.com", "http://example.com:80"},
		no:      []string{"https://example.com", "https://example.com:80", "http://example.com:443", "http://example.com:8080"},
	},
	{
		pattern: "http://localhost:3000",
		yes:     []string{"http://localhost:3000", "http://LOCALHOST:3000"},
		no:      []string{"http://localhost", "http://localhost:80", "http://localhost:30000", "http://localhost:03000"},
	},
	{
		pattern: "https://example.com:65535",
		yes:     []string{"https://example.com:65535"},
		no:      []string{"https://example.com:65536", "https://example.com:131071", "https://example.com:-1"},
	},
	{
		pattern: "https://*.example.com",
		yes: []string{
			"https://app.example.com", "https://APP.Example.com", "https://a.example.com:443",
			"https://xn--bcher-kva.example.com", "https://my_app-1.example.com",
		},
		no: []string{
			"https://example.com", "https://a.b.example.com", "https://.example.com", "https://..example.com",
			"https://app.example.com:8443", "http://app.example.com", "https://app.example.com.evil.example",
			"https://evilexample.com", "https://*.example.com", "https://app..example.com", "https://a/.example.com",
			"https://evil.example#.example.com", "https://user@a.example.com", "https://a@.example.com",
			"https://evil.example:1.example.com", "https://app.example.com/", "https://[::1].example.com",
		},
	},
	{
		// No number, and so no address.
		pattern: "http://*.node1",
		yes:     []string{"http://db.node1"},
		no:      []string{"http://node1", "http://db.node2"},
	},
	{
		pattern: "https://*.example.com.",
		yes:     []string{"https://app.example.com."},
		no:      []string{"https://app.example.com", "https://example.com.", "https://a.b.example.com."},
	},
	{
		pattern: "https://*.example.com:8443",
		yes:     []string{"https://app.example.com:8443"},
		no:      []string{"https://app.example.com", "https://example.com:8443", "https://app.example.com:443"},
	},
	{
		pattern: "https://*.example.com:*",
		yes:     []string{"https://app.example.com", "https://app.example.com:8443", "https://app.example.com:1"},
		no: []string{
			"https://example.com", "https://example.com:8443", "https://a.b.example.com:8443",
			"https://app.example.com:*", "https://app.example.com:0", "https://app.example.com:65536",
			"http://app.example.com:8443",
		},
	},
	{
		pattern: "http://localhost:*",
		yes:     []string{"http://localhost", "http://localhost:80", "http://localhost:3000", "http://localhost:65535"},
		no: []string{
			"https://localhost", "http://localhost:", "http://localhost:*", "http://localhost:0", "http://localhost:x",
			"http://localhost:3000/", "http://localhost:3000@evil.example", "http://localhost.evil.example:3000",
			"http://app.localhost:3000",
		},
	},
	{
		pattern: "http://127.0.0.1:*",
		yes:     []string{"http://127.0.0.1", "http://127.0.0.1:5173"},
		no:      []string{"http://127.0.0.10", "http://127.0.0.1.evil.example", "http://[::ffff:127.0.0.1]", "http://127.1"},
	},
	{
		pattern: "http://[::1]:8080",
		yes:     []string{"http://[::1]:8080", "http://[0:0::1]:8080"},
		no: []string{
			"http://[::1]", "http://::1:8080", "http://[::2]:8080", "http://[::1:8080", "http://::1]:8080",
			"http://[[::1]]:8080", "http://[::1%25eth0]:8080", "http://[::1%eth0]:8080", "http://[127.0.0.1]:8080",
			"http://[localhost]:8080", "http://[]:8080", "http://[::1]8080", "http://[::1] :8080",
		},
	},
	{
		pattern: "https://[2001:DB8::0:1]",
		yes:     []string{"https://[2001:db8::1]", "https://[2001:db8::1]:443", "https://[2001:0DB8:0:0::1]"},
		no:      []string{"https://[2001:db8::1]:8443", "https://[2001:db8::]", "https://2001:db8::1"},
	},
	{
		pattern: "http://[::ffff:192.0.2.1]",
		yes:     []string{"http://[::ffff:c000:201]", "http://[::FFFF:192.0.2.1]"},
		no:      []string{"http://192.0.2.1"},
	},
	{
		pattern: "http://[::1]:*",
		yes:     []string{"http://[::1]", "http://[::1]:8080"},
		no:      []string{"http://[::1]:", "http://[::1]:*", "http://[::2]:8080", "https://[::1]:8080"},
	},
	{
		pattern: "https://xn--bcher-kva.example",
		yes:     []string{"https://xn--bcher-kva.example", "https://XN--Bcher-KVA.example"},
		no:      []string{"https://bücher.example", "https://b%C3%BCcher.example", "https://bucher.example"},
	},
	{
		// A page of the site itself, on plain HTTP ...
		pattern: "self", host: "example.com",
		yes: []string{"http://example.com", "http://example.com:80", "HTTP://EXAMPLE.COM"},
		no: []string{
			"https://example.com", "http://example.com:8080", "http://example.com/", "http://www.example.com",
			"http://example.org", "null", "self", "", "example.com",
		},
	},
	{
		pattern: "self", host: "Example.com:8080",
		yes: []string{"http://example.com:8080"},
		no:  []string{"http://example.com", "https://example.com:8080"},
	},
	{
		// ... and behind TLS.
		pattern: "self", secure: true, host: "example.com",
		yes: []string{"https://example.com", "https://example.com:443"},
		no:  []string{"http://example.com", "http://example.com:443", "https://example.com:80"},
	},
	{
		pattern: "self", secure: true, host: "example.com:443",
		yes: []string{"https://example.com", "https://example.com:443"},
	},
	{
		pattern: "self", secure: true, host: "localhost:8443",
		yes: []string{"https://localhost:8443"},
		no:  []string{"https://localhost", "http://localhost:8443", "https://127.0.0.1:8443"},
	},
	{
		pattern: "self", secure: true, host: "[2001:db8::1]:8443",
		yes: []string{"https://[2001:db8::1]:8443", "https://[2001:db8:0::1]:8443"},
		no:  []string{"https://[2001:db8::1]"},
	},
	// A malformed Host is nobody's origin.
	{pattern: "self", host: "", no: []string{"http://", "", "null", "https://"}},
	{pattern: "self", host: ".example.com", no: []string{"http://.example.com", "http://a.example.com"}},
	{pattern: "self", host: "*", no: []string{"http://*", "http://example.com"}},
	{pattern: "self", host: "*.example.com", no: []string{"http://*.example.com", "http://a.example.com"}},
	{pattern: "self", host: "example.com/", no: []string{"http://example.com/", "http://example.com"}},
	{pattern: "self", host: "user@example.com", no: []string{"http://user@example.com", "http://example.com"}},
	{
		pattern: "null",
		yes:     []string{"null"},
		no:      []string{"NULL", "Null", "", " null", "null, null", "https://null", "null://null"},
	},
	{
		pattern: "https://null",
		yes:     []string{"https://null"},
		no:      []string{"null"},
	},
	{
		pattern: "*",
		yes: []string{
			"https://example.com", "http://[::1]:8080", "null", "chrome-extension://abcdefghijklmnop",
			"https://example.com/path", "https://a.example, https://b.example", "anything", "*",
		},
	},
	{
		// Only http and https have a default port.
		pattern: "chrome-extension://abcdefghijklmnop",
		yes:     []string{"chrome-extension://abcdefghijklmnop", "Chrome-Extension://ABCDEFGHIJKLMNOP"},
		no: []string{
			"chrome-extension://abcdefghijklmnop:443", "chrome-extension://ponmlkjihgfedcba",
			"moz-extension://abcdefghijklmnop", "https://abcdefghijklmnop", "chrome-extension:abcdefghijklmnop",
		},
	},
	{pattern: "app://obsidian.md", yes: []string{"app://obsidian.md"}, no: []string{"app://obsidian.md:443"}},
	{pattern: "app://.", yes: []string{"app://."}, no: []string{"app://", "app://-"}},
	{pattern: "tauri+dev.1://localhost:*", yes: []string{"tauri+dev.1://localhost", "tauri+dev.1://localhost:1420"}},
}

func TestOriginPattern(t *testing.T) {
	for _, test := range originTests {
		pattern, err := parseOriginPattern(test.pattern)
		if err != nil {
			t.Errorf("parsing %q: %v", test.pattern, err)
			continue
		}
		self := requestOrigin(test.secure, test.host)
		for _, header := range test.yes {
			if !pattern.matches(header, self) {
				t.Errorf("%q in a request to %q (TLS %t): %q is refused", test.pattern, test.host, test.secure, header)
			}
		}
		for _, header := range test.no {
			if pattern.matches(header, self) {
				t.Errorf("%q in a request to %q (TLS %t): %q is allowed", test.pattern, test.host, test.secure, header)
			}
		}
	}
}

// originRefusals are entries of allowed_origins that are none, with the rule
// that the error names and the spelling that it suggests, if any.
var originRefusals = []struct{ entry, rule, spelling string }{
	{"", formRule, ""},
	{"//example.com", formRule, ""},
	{"/path", formRule, ""},
	{"https:example.com", formRule, ""},
	{"https:/example.com", formRule, ""},
	// A word may have been meant for anything but a host.
	{"example", formRule, ""},
	{"any", formRule, ""},
	{"**", formRule, ""},
	{"Self", formRule, "self"},
	{"NULL", formRule, "null"},

	{"example.com", formRule, "https://example.com"},
	{"example.com/path", formRule, "https://example.com"},
	{"example.com:8443", formRule, "https://example.com:8443"},
	{"*.example.com", formRule, "https://*.example.com"},
	{"localhost", formRule, "https://localhost"},
	{"localhost:*", formRule, "https://localhost:*"},
	{"192.0.2.1", formRule, "https://192.0.2.1"},
	{"[::1]:8080", formRule, "https://[::1]:8080"},
	{"2001:db8::1", formRule, ""},
	{"user@example.com", formRule, "https://example.com"},
	{"bücher.example", formRule, "https://xn--bcher-kva.example"},

	{"://example.com", schemeRule, ""},
	{"1http://example.com", schemeRule, ""},
	{"ht_tp://example.com", schemeRule, ""},
	{"*://example.com", schemeRule, ""},
	{"https*://example.com", schemeRule, ""},

	{"ws://example.com", pageRule, "http://example.com"},
	{"wss://example.com", pageRule, "https://example.com"},
	{"WSS://*.example.com:*", pageRule, "https://*.example.com:*"},
	{"wss://example.com:8443/ws", pageRule, "https://example.com:8443"},
	{"wss://", pageRule, ""},

	{"https://example.com/", urlRule, "https://example.com"},
	{"https://example.com/path", urlRule, "https://example.com"},
	{"https://example.com?query", urlRule, "https://example.com"},
	{"https://example.com#fragment", urlRule, "https://example.com"},
	{"https://*.example.com/", urlRule, "https://*.example.com"},
	{"https://user@example.com", urlRule, "https://example.com"},
	{"https://user:password@example.com:8443", urlRule, "https://example.com:8443"},
	{"https://a@b@example.com/", urlRule, "https://example.com"},
	{"https:///path", urlRule, ""},
	{"file:///home/user/page.html", urlRule, ""},

	{"https://a.example,https://b.example", listRule, ""},
	{"https://a.example https://b.example", listRule, ""},
	{"https://a.example, https://b.example", listRule, ""},

	{"https://*", wildcardRule, ""},
	{"https://*:*", wildcardRule, ""},
	{"https://*:8443", wildcardRule, ""},
	{"https://*example.com", wildcardRule, ""},
	{"https://app*.example.com", wildcardRule, ""},
	{"https://app.*.com", wildcardRule, ""},
	{"https://app.example.*", wildcardRule, ""},
	{"https://*.*.example.com", wildcardRule, ""},
	{"https://**.example.com", wildcardRule, ""},
	{"https://example.com:80*", wildcardRule, ""},
	{"https://example.com*", wildcardRule, ""},
	{"https://example.com:8443/*", wildcardRule, "https://example.com:8443"},

	{"https://", hostRule, ""},
	{"https://*.", hostRule, ""},
	{"https://:8443", hostRule, ""},
	{"https://:*", hostRule, ""},
	{"file://", hostRule, ""},
	{"https://.example.com", "a host name doesn't start with a dot", "https://*.example.com"},
	{"https://exa$mple.com", "host 'exa$mple.com'" + characterRule, ""},
	{"https://ex%61mple.com", "host 'ex%61mple.com'" + characterRule, ""},
	{"https://example.com\\", "host 'example.com\\'" + characterRule, ""},
	{"http://::1", "host ':'" + characterRule, ""},

	{"https://bücher.example", "host 'bücher.example'" + characterRule, "https://xn--bcher-kva.example"},
	{"https://BÜCHER.example", "host 'BÜCHER.example'" + characterRule, "https://xn--bcher-kva.example"},
	{"https://*.bücher.example", "host 'bücher.example'" + characterRule, "https://*.xn--bcher-kva.example"},
	{"https://bücher.example:8443", "host 'bücher.example'" + characterRule, "https://xn--bcher-kva.example:8443"},
	{"https://bücher.example:*", "host 'bücher.example'" + characterRule, "https://xn--bcher-kva.example:*"},
	{"https://*.bücher.example:1", "host 'bücher.example'" + characterRule, "https://*.xn--bcher-kva.example:1"},
	{"https://*.bücher.example:*", "host 'bücher.example'" + characterRule, "https://*.xn--bcher-kva.example:*"},
	{"https://例え.テスト", "host '例え.テスト'" + characterRule, "https://xn--r8jz45g.xn--zckzah"},

	{"https://example.com:", "port ''" + portRule, ""},
	{"https://example.com:0", "port '0'" + portRule, ""},
	{"https://example.com:0443", "port '0443'" + portRule, ""},
	{"https://example.com:65536", "port '65536'" + portRule, ""},
	{"https://example.com:-1", "port '-1'" + portRule, ""},
	{"https://example.com:https", "port 'https'" + portRule, ""},
	{"https://example.com:443:*", "the port is a number or '*', not both", ""},
	{"https://[::1]:443:*", "the port is a number or '*', not both", ""},

	{"http://[::1", "host '[:'" + bracketRule, ""},
	{"http://[]", "host '[]'" + bracketRule, ""},
	{"http://[127.0.0.1]", "host '[127.0.0.1]'" + bracketRule, ""},
	{"http://[fe80::1%eth0]", "host '[fe80::1%eth0]'" + bracketRule, ""},
	{"http://*.[::1]", addressRule, ""},
	{"http://*.192.0.2.1", addressRule, ""},
	{"http://*.0.0.1", addressRule, ""},
	{"http://*.[::ffff:192.0.2.1]", addressRule, ""},
}

const (
	formRule     = "an origin is scheme://host[:port], 'self', 'null' or '*'"
	schemeRule   = "an origin starts with a scheme such as 'https://'"
	pageRule     = "an origin is that of the page, which is not on a socket's scheme"
	urlRule      = "an origin has no user name, path, query or fragment"
	listRule     = "an entry is one origin: write each as an entry of its own"
	wildcardRule = "a wildcard stands for the first label, as in 'https://*.example.com', " +
		"for the port, as in 'http://localhost:*', or alone for any origin"
	hostRule      = "an origin names a host"
	characterRule = " has a character that host names don't have"
	portRule      = " is not a number from 1 to 65535"
	bracketRule   = " is not an IPv6 address in brackets"
	addressRule   = "an IP address has no subdomains"
)

func TestOriginPatternRefusals(t *testing.T) {
	for _, test := range originRefusals {
		want := test.rule
		if test.spelling != "" {
			want += ": write '" + test.spelling + "'"
		}
		if _, err := parseOriginPattern(test.entry); err == nil {
			t.Errorf("%q is accepted, want %q", test.entry, want)
		} else if err.Error() != want {
			t.Errorf("%q:\n got %s\nwant %s", test.entry, err, want)
		}
	}
}

func TestOriginPolicy(t *testing.T) {
	const site = "https://example.com"
	tests := []struct {
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
	values := caddy.NewEmptyReplacer()
	for name, value := range map[string]string{
		"tenant": "acme", "domain": "example.com", "origin": site, "word": "self", "empty": "",
		"path": "/path", "list": site + " https://example.org",
	} {
		values.Set(name, value)
	}
	expand := func(s string) string { return values.ReplaceAll(s, "") }
	self := requestOrigin(true, "site.example:8443")
	for _, test := range tests {
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
