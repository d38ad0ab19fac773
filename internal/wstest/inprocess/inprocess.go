// Package inprocess puts Caddy into the test binary that imports it. Without it, the binary
// takes seconds less to link, and all of its tests have Caddy in a process of its own. Import
// the websocket handler, too.
package inprocess

import (
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/seed-21dbdb71/caddy-websocket/http2"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

func init() {
	caddy.RegisterModule(testLog{})
	wstest.InProcess = linked{}
}

// linked implements [wstest.Caddy].
type linked struct{}

func (linked) Main() { caddycmd.Main() }

func (linked) Adapt(caddyfile []byte) (config []byte, warnings []string, err error) {
	config, all, err := caddyconfig.GetAdapter("caddyfile").Adapt(caddyfile, nil)
	for _, w := range all {
		warnings = append(warnings, w.Message)
	}
	return config, warnings, err
}

func (linked) Load(config []byte) (plain, secure string, err error) {
	if err := caddy.Load(config, true); err != nil {
		return "", "", err
	}
	app, err := caddy.ActiveContext().App("http")
	if err != nil {
		return "", "", err
	}
	servers := app.(*caddyhttp.App).Servers
	return servers["plain"].Listeners()[0].Addr().String(), servers["secure"].Listeners()[0].Addr().String(), nil
}

func (linked) Stop() error { return caddy.Stop() }

func (linked) ServeAdmin(w http.ResponseWriter, r *http.Request) error {
	module, err := caddy.GetModule("admin.api.websocket")
	if err != nil {
		return err
	}
	for _, route := range module.New().(caddy.AdminRouter).Routes() {
		if route.Pattern == r.URL.Path {
			return route.Handler.ServeHTTP(w, r)
		}
	}
	return errors.New("no route for " + r.URL.Path)
}
