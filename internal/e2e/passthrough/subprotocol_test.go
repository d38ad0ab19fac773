package passthrough

import (
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// What is said about a socket doesn't have the subprotocol if that is a token, but the admin
// API still finds the socket by it.
func TestLogSubprotocol(t *testing.T) {
	t.Parallel()
	const token = "secret.token.of-ada"
	for value, want := range map[string]string{"plain": token, "hash": "19753163", "off": ""} {
		t.Run(value, func(t *testing.T) {
			t.Parallel()
			p := wstest.StartProcess(t, "", `
				log
				log_append placeholder {http.websocket.subprotocol}
				websocket {
					subprotocols `+token+`
					log_subprotocol `+value+`
				}`)
			for _, protocol := range wstest.Protocols {
				client := p.Dial(t, protocol, "/"+protocol, "Sec-WebSocket-Protocol", token)
				client.Echo(ws.OpText, "hello")
				if list := p.Sessions(t, "?subprotocol="+token); len(list) != 1 || list[0]["subprotocol"] != want {
					t.Errorf("%s: the admin API says %v, want %q", protocol, list, want)
				}
				client.CloseNormally()
				client.Conn.Close()
				e := awaitSocket(t, &p.Server, protocol)
				socket := e["websocket"].(map[string]any)
				if got, _ := socket["subprotocol"].(string); got != want {
					t.Errorf("%s: the log says %q, want %q", protocol, got, want)
				}
				if got, _ := e["placeholder"].(string); got != want {
					t.Errorf("%s: the placeholder is %q, want %q", protocol, got, want)
				}
			}
		})
	}
}
