package passthrough

import (
	"net/http"
	"slices"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// What an application may judge for itself reaches it as the client sent it.
func TestPassthroughLeavesHandshakeToApplication(t *testing.T) {
	tests := []struct {
		name   string
		http1  bool // has a meaning on HTTP/1.1 only
		header []string
	}{
		{"token of Kubernetes", false, []string{"Sec-WebSocket-Protocol", "v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.YQ=="}},
		{"subprotocol that is no token", false, []string{"Sec-WebSocket-Protocol", "bearer/a=b; c d"}},
		{"subprotocol twice", false, []string{"Sec-WebSocket-Protocol", "ocpp1.6", "Sec-WebSocket-Protocol", "ocpp1.6,ocpp1.6"}},
		{"no subprotocol", false, []string{"Sec-WebSocket-Protocol", ""}},
		{"empty elements", false, []string{"Sec-WebSocket-Protocol", ",chat,,"}},
		{"no extension", false, []string{"Sec-WebSocket-Extensions", ""}},
		{"extensions that are none", false, []string{"Sec-WebSocket-Extensions", `=; "`}},
		{"old version", false, []string{"Sec-WebSocket-Version", "8"}},
		{"no version", false, []string{"Sec-WebSocket-Version", "-"}},
		{"list of versions", false, []string{"Sec-WebSocket-Version", "13, 8"}},
		{"key of 13 bytes", true, []string{"Sec-WebSocket-Key", "MTIzNDU2Nzg5MDEyMw=="}},
		{"key of 32 bytes", true, []string{"Sec-WebSocket-Key", "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI="}},
		{"key that is no base64", true, []string{"Sec-WebSocket-Key", "not base64"}},
		{"empty key", true, []string{"Sec-WebSocket-Key", ""}},
		{"no key", true, []string{"Sec-WebSocket-Key", "-"}},
		{"length of 0", true, []string{"Content-Length", "0"}},
	}
	headers := make(chan http.Header, 1)
	address := wstest.UpgradingUpstream(t, func(r *http.Request) { headers <- r.Header })
	s := wstest.Start(t, "websocket passthrough {\nallowed_origins *\n}\nrespond /no-socket 204\nreverse_proxy "+address)
	for _, protocol := range wstest.Protocols {
		for _, test := range tests {
			if test.http1 && (protocol == "http2" || protocol == "http3") {
				continue
			}
			t.Run(protocol+"/"+test.name, func(t *testing.T) {
				s.Dial(t, protocol, "/", test.header...)
				got := (<-headers)[http.CanonicalHeaderKey(test.header[0])]
				var want []string
				for i := 1; i < len(test.header); i += 2 {
					if test.header[i] != "-" && test.header[0] != "Content-Length" {
						want = append(want, test.header[i])
					}
				}
				if !slices.Equal(got, want) {
					t.Errorf("the application sees %s: %q, want %q", test.header[0], got, want)
				}
			})
		}
	}
}
