package origin

import (
	"testing"
)

// refusals are entries of allowed_origins that are none, with the rule
// that the error names and the spelling that it suggests, if any.
var refusals = []struct{ entry, rule, spelling string }{
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

	{"wss://", hostRule, ""},

	{"https://example.com?query", urlRule, "https://example.com"},
	{"https://example.com#fragment", urlRule, "https://example.com"},
	{"https://*.example.com/", wildcardRule, "https://*.example.com"},
	{"wss://*", wildcardRule, ""},
	{"ws://*:*", wildcardRule, ""},
	{"HTTP://*", wildcardRule, ""},
	{"app://*x", wildcardRule, ""},
	{"app://x.*", wildcardRule, ""},
	{"app://*/index.html", wildcardRule, ""},
	{"https://user@example.com", urlRule, "https://example.com"},
	{"https://user:password@example.com:8443", urlRule, "https://example.com:8443"},
	{"https://a@b@example.com/", urlRule, "https://example.com"},
	{"https:///path", hostRule, ""},
	{"https:///", hostRule, ""},
	{"https://example.com:x/path", "port 'x'" + portRule, ""},
	{"app://a$b/path", "host 'a$b'" + characterRule, ""},
	{"https://example.com/path?query", urlRule, "https://example.com"},
	{"https://example.com/a b", listRule, "https://example.com"},
	{"https://example.com/ü", "path '/ü' has a character that URLs don't have", "https://example.com"},
	{"file:///a\tb", "path '/a\tb' has a character that URLs don't have", ""},

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
	urlRule      = "an origin has no user name, query or fragment"
	listRule     = "an entry is one origin: write each as an entry of its own"
	wildcardRule = "a wildcard stands for the first label, as in 'https://*.example.com', " +
		"for the port, as in 'http://localhost:*', for the host of a scheme other than http and https, " +
		"as in 'moz-extension://*', or alone for any origin"
	hostRule      = "an origin names a host"
	characterRule = " has a character that host names don't have"
	portRule      = " is not a number from 1 to 65535"
	bracketRule   = " is not an IPv6 address in brackets"
	addressRule   = "an IP address has no subdomains"
)

func TestPatternRefusals(t *testing.T) {
	for _, test := range refusals {
		want := test.rule
		if test.spelling != "" {
			want += ": write '" + test.spelling + "'"
		}
		if _, err := parsePattern(test.entry); err == nil {
			t.Errorf("%q is accepted, want %q", test.entry, want)
		} else if err.Error() != want {
			t.Errorf("%q:\n got %s\nwant %s", test.entry, err, want)
		}
	}
}
