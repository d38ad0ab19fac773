// The command redis is Caddy with this module and a storage on Redis, for a test of both.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	_ "github.com/pberkel/caddy-storage-redis"

	_ "github.com/seed-21dbdb71/caddy-websocket"
)

func main() { caddycmd.Main() }
