package caddywebsocket

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/certmagic"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "websocket-echo",
		Usage: "[--listen <addr>] [--domain <example.com>] [--allowed-origin <origin>]... [--keepalive <duration>] [--console] [--test-controls] [--access-log]",
		Short: "Spins up a WebSocket echo server",
		Long: `
A WebSocket server that sends every message back, on any path. Useful for
testing clients, proxies and networks.

The listener's socket address can be customized with the --listen flag.

If a domain name is specified with --domain, the default listener address
will be changed to the HTTPS port and the server will use HTTPS. If using
a public domain, ensure A/AAAA records are properly configured before
using this option.

Pages of any origin may connect, unless the allowed ones are listed with
--allowed-origin, which may be given more than once.

A Ping is sent when a socket has been silent for the --keepalive duration. If
the client stays silent for twice that duration, the socket is closed. The
value "off" turns both off.

With --console, a browser that opens any URL of the server gets a test page.

With --test-controls, clients may ask for late answers, close codes, fragments
and more by parameters in the query of the URL, such as
/?delay=2s&close=1012&after=3.

All other requests that are not WebSocket handshakes get status 426.`,
		CobraFunc: func(cmd *cobra.Command) {
			cmd.Flags().StringP("listen", "l", "", "The address to which to bind the listener")
			cmd.Flags().StringP("domain", "d", "", "Domain name at which to serve the sockets")
			cmd.Flags().StringArrayP("allowed-origin", "o", nil, "Origin whose pages may connect (repeatable)")
			cmd.Flags().StringP("keepalive", "k", defaultKeepaliveInterval.String(), "How long a socket may be silent before a Ping is sent, or off")
			cmd.Flags().BoolP("console", "c", false, "Serve a test page to browsers")
			cmd.Flags().BoolP("test-controls", "t", false, "Let parameters in the URL control the server's behavior")
			cmd.Flags().BoolP("access-log", "a", false, "Enable the access log")
			cmd.RunE = caddycmd.WrapCommandFuncForCobra(runEcho)
		},
	})
}

// runEcho runs the websocket-echo command.
func runEcho(fs caddycmd.Flags) (int, error) {
	caddy.TrapSignals()
	origins, err := fs.GetStringArray("allowed-origin")
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	echo := &Handler{AllowedOrigins: origins, Console: fs.Bool("console"), TestControls: fs.Bool("test-controls")}
	if keepalive := fs.String("keepalive"); keepalive == "off" {
		echo.KeepaliveInterval = -1
	} else {
		interval, err := caddy.ParseDuration(keepalive)
		if err != nil || interval <= 0 {
			return caddy.ExitCodeFailedStartup, fmt.Errorf("--keepalive '%s': it must be a duration above 0, such as 30s, or off", keepalive)
		}
		echo.KeepaliveInterval = caddy.Duration(interval)
	}
	domain, listen := fs.String("domain"), fs.String("listen")
	if listen == "" && domain == "" {
		listen = ":" + strconv.Itoa(certmagic.HTTPPort)
	} else if listen == "" {
		listen = ":" + strconv.Itoa(certmagic.HTTPSPort)
	}
	if err := caddy.Run(echoConfig(echo, listen, domain, fs.Bool("access-log"))); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	log.Printf("Caddy echoing WebSocket messages on %s", listen)
	select {}
}

// echoConfig returns the config of a server that only echoes.
func echoConfig(echo *Handler, listen, domain string, accessLog bool) *caddy.Config {
	notHandshake := caddyhttp.StaticResponse{
		StatusCode: caddyhttp.WeakString(strconv.Itoa(http.StatusUpgradeRequired)),
		Body:       "This is a WebSocket endpoint.\n",
	}
	route := caddyhttp.Route{HandlersRaw: []json.RawMessage{
		caddyconfig.JSONModuleObject(echo, "handler", "websocket", nil),
		caddyconfig.JSONModuleObject(notHandshake, "handler", "static_response", nil),
	}}
	if domain != "" {
		route.MatcherSetsRaw = []caddy.ModuleMap{{"host": caddyconfig.JSON(caddyhttp.MatchHost{domain}, nil)}}
	}
	server := &caddyhttp.Server{
		ReadHeaderTimeout: caddy.Duration(10 * time.Second),
		Listen:            []string{listen},
		Routes:            caddyhttp.RouteList{route},
	}
	if accessLog {
		server.Logs = new(caddyhttp.ServerLogConfig)
	}
	persist := false
	return &caddy.Config{
		Admin: &caddy.AdminConfig{Disabled: true, Config: &caddy.ConfigSettings{Persist: &persist}},
		AppsRaw: caddy.ModuleMap{
			"http": caddyconfig.JSON(caddyhttp.App{Servers: map[string]*caddyhttp.Server{"echo": server}}, nil),
		},
	}
}
