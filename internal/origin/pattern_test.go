package origin

import (
	"testing"
)

// patternTests are patterns with the Origin headers that they allow and don't,
// in a request to host, with TLS where secure.
var patternTests = []struct {
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
	// Other clients than browsers send what isn't the origin of a page.
	{
		pattern: "wss://example.com",
		yes:     []string{"wss://example.com", "WSS://EXAMPLE.com:443"},
		no:      []string{"https://example.com", "ws://example.com", "wss://example.com:80", "wss://example.com/", "wss://example.org"},
	},
	{
		pattern: "ws://*.example.com:*",
		yes:     []string{"ws://a.example.com", "ws://a.example.com:8080"},
		no:      []string{"http://a.example.com", "wss://a.example.com", "ws://example.com"},
	},
	{
		pattern: "file://",
		yes:     []string{"file://"},
		no:      []string{"file:///", "file://x", "file:///index.html", "FILE://", "file:", "null", "", "qrc://"},
	},
	{pattern: "qrc://", yes: []string{"qrc://"}, no: []string{"qrc:///", "qrc://x", "file://"}},
	{
		pattern: "file:///android_asset/index.html",
		yes:     []string{"file:///android_asset/index.html"},
		no:      []string{"file://", "file:///android_asset/", "file:///android_asset/index.html?x"},
	},
	{
		pattern: "http://192.168.4.1:81/ws",
		yes:     []string{"http://192.168.4.1:81/ws"},
		no:      []string{"http://192.168.4.1:81", "http://192.168.4.1:81/", "http://192.168.4.1:81/ws/", "HTTP://192.168.4.1:81/ws"},
	},
	{
		pattern: "https://example.com/",
		yes:     []string{"https://example.com/"},
		no:      []string{"https://example.com", "https://example.com//", "https://EXAMPLE.com/"},
	},
	{
		pattern: "moz-extension://*",
		yes:     []string{"moz-extension://0a1b2c3d-0000-4000-8000-00000000000f", "MOZ-EXTENSION://x"},
		no: []string{
			"moz-extension://", "moz-extension://*", "moz-extension://x/", "moz-extension://x:1", "moz-extension://a b",
			"chrome-extension://x", "https://x", "https://moz-extension", "null", "moz-extension:x",
		},
	},
	{
		pattern: "vscode-webview://*",
		yes:     []string{"vscode-webview://0q3h8b5v8jhd6k0c1s5p2t4q8v6a1f3n"},
		no:      []string{"vscode-webview-x://a", "vscode://a"},
	},
	{pattern: "App://*:*", yes: []string{"app://x", "app://x:1", "app://[::1]:1"}, no: []string{"app://x:*", "app://x:", "app://"}},
	{pattern: "app://x", yes: []string{"app://x"}, no: []string{"app://y", "app://x:1", "app://x/"}},
	{pattern: "tauri+dev.1://localhost:*", yes: []string{"tauri+dev.1://localhost", "tauri+dev.1://localhost:1420"}},
}

func TestPattern(t *testing.T) {
	for _, test := range patternTests {
		pattern, err := parsePattern(test.pattern)
		if err != nil {
			t.Errorf("parsing %q: %v", test.pattern, err)
			continue
		}
		self := Of(test.secure, test.host)
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
