// Command caddy is Caddy with its standard modules and the websocket handler.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/seed-21dbdb71/caddy-websocket"
	_ "github.com/seed-21dbdb71/caddy-websocket/http2"
)

func main() {
	caddycmd.Main()
}
