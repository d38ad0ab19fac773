// Command textbook is Caddy with a module that wraps the echo server from gorilla's
// documentation: the simplest WebSocket handler for Caddy that works.
package main

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/gorilla/websocket"
)

func init() {
	caddy.RegisterModule(new(handler))
}

func main() {
	caddycmd.Main()
}

type handler struct{}

func (*handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.textbook",
		New: func() caddy.Module { return new(handler) },
	}
}

func (*handler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	// gorilla expects an http.Hijacker, which Caddy's response writers hide.
	for {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		w = u.Unwrap()
	}
	upgrader := websocket.Upgrader{}
	c, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	for {
		kind, message, err := c.ReadMessage()
		if err != nil || c.WriteMessage(kind, message) != nil {
			return nil
		}
	}
}
