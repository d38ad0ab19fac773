package caddywebsocket

import (
	"context"
	"crypto/tls"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-21dbdb71/caddy-websocket/internal/origin"
)

// selfTests are requests that a proxy makes to http://internal:8080, and the
// origin of the site as the proxy, if it is trusted, says that it is.
var selfTests = []struct {
	name   string
	header map[string][]string
	// client is the address that Caddy takes for the client's under
	// trusted_proxies_strict.
	client       string
	want, strict string
}{
	{"nothing forwarded", nil, "10.0.0.1", "http://internal:8080", ""},
	{"proto", map[string][]string{"X-Forwarded-Proto": {"https"}}, "10.0.0.1", "https://internal:8080", ""},
	{"proto in capitals", map[string][]string{"X-Forwarded-Proto": {"HTTPS"}}, "10.0.0.1", "https://internal:8080", ""},
	{"proto of a socket", map[string][]string{"X-Forwarded-Proto": {"wss"}}, "10.0.0.1", "https://internal:8080", ""},
	{"plain proto of a socket", map[string][]string{"X-Forwarded-Proto": {"ws"}}, "10.0.0.1", "http://internal:8080", ""},
	{"proto that is none", map[string][]string{"X-Forwarded-Proto": {"gopher"}}, "10.0.0.1", "http://internal:8080", ""},
	{"empty fields", map[string][]string{"X-Forwarded-Proto": {""}, "X-Forwarded-Host": {","}}, "10.0.0.1", "http://internal:8080", ""},
	{"host", map[string][]string{"X-Forwarded-Host": {"App.example"}}, "10.0.0.1", "http://app.example", ""},
	{
		"proto and host",
		map[string][]string{"X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"app.example:8443"}},
		"10.0.0.1", "https://app.example:8443", "",
	},
	{
		"one proxy of several sets the fields",
		map[string][]string{
			"X-Forwarded-For": {"198.51.100.7, 10.0.0.2"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"app.example"},
		},
		"198.51.100.7", "https://app.example", "",
	},
	{
		"each proxy of three adds to them",
		map[string][]string{
			"X-Forwarded-For": {"198.51.100.7, 10.0.0.2", "10.0.0.3"}, "X-Forwarded-Proto": {"https, http,http"},
			"X-Forwarded-Host": {"app.example", "internal-2", "internal-3"},
		},
		"198.51.100.7", "https://app.example", "",
	},
	{
		"the client has begun the lists",
		map[string][]string{
			"X-Forwarded-For": {"203.0.113.9, 198.51.100.7, 10.0.0.2"}, "X-Forwarded-Proto": {"http, https, http"},
			"X-Forwarded-Host": {"evil.example, app.example, internal-2"},
		},
		"198.51.100.7", "http://evil.example", "https://app.example",
	},
	{
		"the client claims its own address once more",
		map[string][]string{
			"X-Forwarded-For": {"198.51.100.7, 198.51.100.7:4711"}, "X-Forwarded-Host": {"evil.example, app.example"},
		},
		"198.51.100.7", "http://evil.example", "http://app.example",
	},
	{
		"the client is one of the trusted",
		map[string][]string{
			"X-Forwarded-For": {"10.0.0.9, 10.0.0.2"}, "X-Forwarded-Proto": {"https, http"}, "X-Forwarded-Host": {"app.example, internal-2"},
		},
		"10.0.0.1", "https://app.example", "",
	},
	{
		"the client's address is in another field",
		map[string][]string{"X-Forwarded-Proto": {"http, https"}, "X-Forwarded-Host": {"evil.example, app.example"}},
		"198.51.100.7", "http://evil.example", "https://app.example",
	},
}

func TestSelfOrigin(t *testing.T) {
	for _, test := range selfTests {
		for _, c := range []struct {
			trusted bool
			strict  int
			want    string
		}{
			{false, 0, "http://internal:8080"},
			{false, 1, "http://internal:8080"},
			{true, 0, test.want},
			{true, 1, test.strict},
		} {
			if c.want == "" {
				c.want = test.want
			}
			r := httptest.NewRequest(http.MethodGet, "http://internal:8080/", nil)
			r.RemoteAddr = "10.0.0.1:1234"
			maps.Copy(r.Header, test.header)
			ctx := context.WithValue(r.Context(), caddyhttp.VarsCtxKey, map[string]any{
				caddyhttp.TrustedProxyVarKey: c.trusted, caddyhttp.ClientIPVarKey: test.client,
			})
			ctx = context.WithValue(ctx, caddyhttp.ServerCtxKey, &caddyhttp.Server{TrustedProxiesStrict: c.strict})
			want, err := origin.Parse(c.want)
			if err != nil {
				t.Fatal(err)
			}
			if got := selfOrigin(r.WithContext(ctx)); got != want {
				t.Errorf("%s, trusted %t, strict %d: got %v, want %v", test.name, c.trusted, c.strict, got, want)
			}
		}
	}
}

// Between the proxy and Caddy there may be TLS without any in front.
func TestSelfOriginOfPlainSite(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "https://internal/", nil)
	r.TLS = new(tls.ConnectionState)
	r.Header.Set("X-Forwarded-Proto", "http")
	ctx := context.WithValue(r.Context(), caddyhttp.VarsCtxKey, map[string]any{caddyhttp.TrustedProxyVarKey: true})
	if got, want := selfOrigin(r.WithContext(ctx)), origin.Of(false, "internal"); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := selfOrigin(r); got != origin.Of(true, "internal") {
		t.Errorf("not trusted: got %v", got)
	}
}
