// Command plain is Caddy with the websocket handler and without the package
// http2.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/seed-21dbdb71/caddy-websocket"
)

func main() {
	caddycmd.Main()
}
