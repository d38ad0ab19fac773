package caddywebsocket

import (
	"github.com/caddyserver/caddy/v2"
)

func activeContext() caddy.Context { return caddy.ActiveContext() }
