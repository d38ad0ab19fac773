package passthrough

import (
	"net/http"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// However many extensions the client offers, the application sees one field.
func TestCompressionOffInPassthrough(t *testing.T) {
	long := strings.Repeat("x,", 1000)
	headers := make(chan http.Header, 1)
	address := wstest.UpgradingUpstream(t, func(r *http.Request) { headers <- r.Header })
	s := wstest.Start(t, "websocket passthrough {\nallowed_origins *\ncompression off\n}\nrespond /no-socket 204\nreverse_proxy "+address)
	for _, protocol := range wstest.Protocols {
		s.Dial(t, protocol, "/", "Sec-WebSocket-Extensions", long+"permessage-deflate", "Sec-WebSocket-Extensions", "y")
		got := (<-headers)["Sec-Websocket-Extensions"]
		if len(got) != 1 || strings.ReplaceAll(got[0], " ", "") != long+"y" {
			t.Errorf("%s: the application is offered %d fields, %.50q", protocol, len(got), strings.Join(got, "|"))
		}
	}
}
