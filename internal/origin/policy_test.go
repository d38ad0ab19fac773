package origin

import (
	"slices"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

const site = "https://example.com"

// policyTests are policies and what they make of headers.
var policyTests = []struct {
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
	{"template that becomes nothing", []string{"{empty}"}, false, []string{site}, false},
	{"template that becomes nothing, null", []string{"{empty}"}, false, []string{"null"}, false},
	{"template of no value", []string{"{unknown}"}, false, []string{site}, false},
	{"template of no host", []string{"https://{unknown}"}, false, []string{"https://"}, false},
	{"template that becomes a path", []string{"https://example.com{path}"}, false, []string{site}, false},
	{"template that becomes that very path", []string{"https://example.com{path}"}, false, []string{site + "/path"}, true},
	{"template that becomes a list", []string{"{list}"}, false, []string{site}, false},
	{"template of no scheme", []string{"{domain}"}, false, []string{site}, false},

	// A value widens nothing ...
	{"value that is self", []string{"{self}"}, false, []string{"https://site.example:8443"}, false},
	{"value that makes self", []string{"s{elf}"}, false, []string{"https://site.example:8443"}, false},
	{"value that is null", []string{"{null}"}, false, []string{"null"}, false},
	{"value that makes null", []string{"{empty}null"}, false, []string{"null"}, false},
	{"value that is an asterisk", []string{"{any}"}, false, []string{site}, false},
	{"value that is an asterisk, the same", []string{"{any}"}, false, []string{"*"}, false},
	{"value with a label open", []string{"https://{subdomains}"}, false, []string{"https://evil.example.com"}, false},
	{"value with a label open, the same", []string{"https://{subdomains}"}, false, []string{"https://*.example.com"}, false},
	{"value of a label that is open", []string{"https://{any}.example.com"}, false, []string{"https://evil.example.com"}, false},
	{"value of a port that is open", []string{"https://example.com:{any}"}, false, []string{"https://example.com:1"}, false},
	{"value with a port open", []string{"https://{ports}"}, false, []string{"https://example.com:1"}, false},
	{"value of a host that is open", []string{"app://{any}"}, false, []string{"app://evil"}, false},
	{"value of http for any host", []string{"{scheme}://*"}, false, []string{site}, false},
	{"value within a wildcard of the config", []string{"https://*.{subdomains}"}, false, []string{"https://a.b.example.com"}, false},
	{"value that has a placeholder", []string{"https://{nested}"}, false, []string{"https://acme.example.com"}, false},
	// ... unless it is the operator's own.
	{"wildcard of the environment", []string{"{env.TEST_ORIGIN_WILDCARD}"}, false, []string{"https://a.example.com"}, true},
	{"keyword of the environment", []string{"{env.TEST_ORIGIN_SELF}"}, false, []string{"https://site.example:8443"}, true},
	{"nothing in the environment", []string{"{env.TEST_ORIGIN_NONE}"}, false, []string{site}, false},
	{"environment around a placeholder", []string{"{env.TEST_ORIGIN_PREFIX}{domain}"}, false, []string{"https://a.example.com"}, true},
	{"environment around a wildcard", []string{"{env.TEST_ORIGIN_PREFIX}{subdomains}"}, false, []string{"https://a.b.example.com"}, false},
}

func TestPolicy(t *testing.T) {
	t.Setenv("TEST_ORIGIN_WILDCARD", "https://*.example.com")
	t.Setenv("TEST_ORIGIN_SELF", "self")
	t.Setenv("TEST_ORIGIN_PREFIX", "https://*.")
	values := caddy.NewEmptyReplacer()
	for name, value := range map[string]string{
		"tenant": "acme", "domain": "example.com", "origin": site, "empty": "",
		"path": "/path", "list": site + " https://example.org", "self": "self", "elf": "elf", "null": "null", "any": "*",
		"subdomains": "*.example.com", "ports": "example.com:*", "scheme": "https", "nested": "{tenant}.example.com",
	} {
		values.Set(name, value)
	}
	self := func() Origin { return Of(true, "site.example:8443") }
	for _, test := range policyTests {
		policy, err := NewPolicy(test.entries, test.required)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if got := policy.Allows(test.headers, self, values); got != test.want {
			t.Errorf("%s: allowed is %t, want %t", test.name, got, test.want)
		}
	}
}

func TestPolicyNamesTheEntry(t *testing.T) {
	_, err := NewPolicy([]string{"self", "{placeholder}", "example.com"}, false)
	const want = "allowed_origins 'example.com': " + formRule + ": write 'https://example.com'"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestPolicyChecksEnvironment(t *testing.T) {
	t.Setenv("TEST_ORIGIN", "example.com")
	_, err := NewPolicy([]string{"{env.TEST_ORIGIN}"}, false)
	const want = "allowed_origins '{env.TEST_ORIGIN}': " + formRule + ": write 'https://example.com'"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// Entries that no browser sends are taken, but not without a word.
func TestNonBrowserOrigins(t *testing.T) {
	t.Setenv("TEST_ORIGIN", "ws://example.com")
	for _, test := range []struct {
		entries []string
		want    []NonBrowser
	}{
		{[]string{"https://example.com", "http://localhost:*", "self", "null", "*"}, nil},
		{[]string{"file://", "file:///index.html", "app://x", "app://x/y", "moz-extension://*"}, nil},
		{[]string{"wss://example.com"}, []NonBrowser{{"wss://example.com", "https://example.com"}}},
		{[]string{"WS://*.example.com:*"}, []NonBrowser{{"WS://*.example.com:*", "http://*.example.com:*"}}},
		{[]string{"https://example.com/"}, []NonBrowser{{"https://example.com/", "https://example.com"}}},
		{[]string{"wss://example.com:8443/ws"}, []NonBrowser{{"wss://example.com:8443/ws", "https://example.com:8443"}}},
		{[]string{"https://example.com", "wss://example.com", "https://example.com/app"}, nil},
		{[]string{"{env.TEST_ORIGIN}"}, []NonBrowser{{"{env.TEST_ORIGIN}", "http://example.com"}}},
	} {
		policy, err := NewPolicy(test.entries, false)
		if err != nil || !slices.Equal(policy.NonBrowser, test.want) {
			t.Errorf("%q: got %q, %v, want %q", test.entries, policy.NonBrowser, err, test.want)
		}
	}
}

func BenchmarkOrigin(b *testing.B) {
	for _, c := range []struct{ name, entry, origin string }{
		{"exact", "https://app.example.com", "https://app.example.com"},
		{"wildcard", "https://*.example.com", "https://app.example.com"},
		{"self", "self", "https://example.com"},
		{"placeholder", "{http.request.host}", "https://app.example.com"},
	} {
		b.Run(c.name, func(b *testing.B) {
			policy, err := NewPolicy([]string{"http://localhost:*", c.entry}, false)
			if err != nil {
				b.Fatal(err)
			}
			self := func() Origin { return Of(true, "example.com") }
			headers := []string{c.origin}
			repl := caddy.NewReplacer()
			repl.Set("http.request.host", "https://app.example.com")
			b.ReportAllocs()
			for b.Loop() {
				if !policy.Allows(headers, self, repl) {
					b.Fatal("not allowed")
				}
			}
		})
	}
}
