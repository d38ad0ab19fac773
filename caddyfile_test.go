package caddywebsocket

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata/adapt")

// TestAdapt compares the Caddyfiles in testdata/adapt with the JSON, or the
// error, that stands below each.
func TestAdapt(t *testing.T) {
	files, err := filepath.Glob("testdata/adapt/*.caddyfiletest")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".caddyfiletest"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			input, want, ok := strings.Cut(string(data), "----------\n")
			if !ok {
				t.Fatal("no line of dashes")
			}
			if w, differs := caddyfile.FormattingDifference("Caddyfile", []byte(input)); differs {
				t.Errorf("line %d is not formatted", w.Line)
			}
			got := adapt(t, input)
			if *update {
				if err := os.WriteFile(file, []byte(input+"----------\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != want {
				t.Errorf("it adapts to\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// adapt gives the JSON of a Caddyfile or the text of the error.
func adapt(t *testing.T, input string) string {
	t.Helper()
	data, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(input), nil)
	if err != nil {
		return err.Error() + "\n"
	}
	if len(warnings) > 0 {
		t.Errorf("warnings: %v", warnings)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, data, "", "\t"); err != nil {
		t.Fatal(err)
	}
	return indented.String() + "\n"
}

// parse parses a directive.
func parse(directive string) (*Handler, error) {
	tokens, err := caddyfile.Tokenize([]byte(directive), "Caddyfile")
	if err != nil {
		return nil, err
	}
	h := new(Handler)
	return h, h.UnmarshalCaddyfile(caddyfile.NewDispenser(tokens))
}

// load makes a handler of its JSON, as Caddy does when a config loads.
func load(t *testing.T, config []byte) (*Handler, error) {
	t.Helper()
	h := new(Handler)
	if err := caddy.StrictUnmarshalJSON(config, h); err != nil {
		t.Fatalf("%s: %v", config, err)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	if err := h.Provision(ctx); err != nil {
		return nil, err
	}
	h.logger = zap.NewNop() // outside a config, warnings would go to stderr
	return h, h.Validate()
}

// configRefusals are configs that make no sense, and what is said about each.
var configRefusals = []struct{ config, message string }{
	{`{"mode": "proxy"}`, "mode 'proxy': it must be echo or passthrough"},
	{`{"mode": "Echo"}`, "mode 'Echo': it must be echo or passthrough"},

	{
		`{"keepalive_interval": -1, "keepalive_timeout": "1m"}`,
		"keepalive_timeout '1m0s': it can't be set when keepalive is off",
	},
	{
		`{"keepalive_interval": "30s", "keepalive_timeout": "30s"}`,
		"keepalive_timeout '30s': it must be longer than keepalive_interval, which is '30s'",
	},
	{
		`{"keepalive_interval": "30s", "keepalive_timeout": "20s"}`,
		"keepalive_timeout '20s': it must be longer than keepalive_interval, which is '30s'",
	},
	{
		`{"keepalive_interval": "30s", "keepalive_timeout": "-1s"}`,
		"keepalive_timeout '-1s': it must be longer than keepalive_interval, which is '30s'",
	},
	{
		`{"keepalive_timeout": "1m"}`,
		"keepalive_timeout '1m0s': it must be longer than keepalive_interval, which is '2m0s'",
	},

	{`{"buffer_size": 511}`, "buffer_size '511': it must be from 512 to 1048576 bytes"},
	{`{"buffer_size": 1048577}`, "buffer_size '1048577': it must be from 512 to 1048576 bytes"},
	{`{"buffer_size": -4096}`, "buffer_size '-4096': it must be from 512 to 1048576 bytes"},
	{
		`{"buffer_size": 9223372036854775807}`,
		"buffer_size '9223372036854775807': it must be from 512 to 1048576 bytes",
	},

	{
		`{"mode": "passthrough", "subprotocols": ["chat", "v2.chat"]}`,
		"subprotocols 'chat v2.chat': only valid in echo mode; in passthrough mode the next handler chooses the subprotocol",
	},
	{
		`{"subprotocols": ["chat", "chat room"]}`,
		"subprotocols 'chat room': it must be a token: letters, digits and !#$%&'*+-.^_`|~",
	},
	{
		`{"subprotocols": ["chat,v2.chat"]}`,
		"subprotocols 'chat,v2.chat': it must be a token: letters, digits and !#$%&'*+-.^_`|~",
	},
	{
		`{"subprotocols": [""]}`,
		"subprotocols '': it must be a token: letters, digits and !#$%&'*+-.^_`|~",
	},
	{`{"subprotocols": ["chat", "v2.chat", "chat"]}`, "subprotocols 'chat': it is given more than once"},

	{`{"mode": "passthrough", "console": true}`, "console: only valid in echo mode"},
	{`{"mode": "passthrough", "test_controls": true}`, "test_controls: only valid in echo mode"},

	{`{"compression": "gzip"}`, "compression 'gzip': it must be on or off"},
	{`{"compression": "true"}`, "compression 'true': it must be on or off"},
	{`{"mode": "passthrough", "compression": "gzip"}`, "compression 'gzip': it must be on or off"},

	{
		`{"max_connections": 10, "max_connections_per_client": 11}`,
		"max_connections_per_client '11': it can't be more than max_connections, which is '10'",
	},
	{
		`{"max_connections_per": {"user": 3}}`,
		"max_connections_per 'user': the key must have a placeholder, such as {http.auth.user.id}",
	},
	{
		`{"max_connections_per": {"{http.auth.user.id}": 0, "{zzz}": -1}}`,
		"max_connections_per {http.auth.user.id} '0': it must be at least 1",
	},
	{
		`{"expires": "tomorrow"}`,
		"expires 'tomorrow': it must have a placeholder, such as {http.auth.user.expires}, or be Unix seconds, an RFC 3339 or HTTP date, or a duration from now",
	},
	{`{"recheck_interval": "1m"}`, "recheck: it must have at least one directive, such as forward_auth"},
	{
		`{"recheck_interval": "999ms", "recheck_routes": [{"handle": [{"handler": "static_response"}]}]}`,
		"recheck_interval '999ms': it must be at least 1s and at most 100 years",
	},
	{
		`{"recheck_routes": [{"handle": [{"handler": "static_response"}]}]}`,
		"recheck_interval '0s': it must be at least 1s and at most 100 years",
	},
	{`{"context_takeover": true}`, "context_takeover: only valid in echo mode with compression on"},
	{
		`{"mode": "passthrough", "compression": "on", "context_takeover": true}`,
		"context_takeover: only valid in echo mode with compression on",
	},
	{`{"log_subprotocol": "none"}`, "log_subprotocol 'none': it must be plain, hash or off"},
	{`{"close_code": {"recheck": 4403}}`, "close_code 'recheck': only valid with recheck"},
	{`{"message_rate": {"per": 1000000000}}`, "message_rate limit '0': it must be from 1 to 9007199254740992"},
	{`{"byte_rate": {"limit": 9007199254740993, "per": 1}}`, "byte_rate limit '9007199254740993': it must be from 1 to 9007199254740992"},
	{`{"expires": "-1h"}`, "expires '-1h': it has passed"},
	{`{"expires": "2001-02-03T04:05:06Z"}`, "expires '2001-02-03T04:05:06Z': it has passed"},
	{
		`{"max_connections": 2, "max_connections_per": {"{x}": 3}}`,
		"max_connections_per {x} '3': it can't be more than max_connections, which is '2'",
	},
	{`{"byte_rate": {"limit": 1}}`, "byte_rate per '0s': it must be longer than 0 and at most 100 years"},
	{`{"byte_rate": {"limit": 1, "per": "1s", "action": "drop"}}`, "byte_rate action 'drop': it must be delay or close"},
	{`{"max_message_size_from_upstream": 1000}`, "max_message_size_from_upstream: only valid in passthrough mode"},
	{`{"max_connections": -1}`, "max_connections '-1': it can't be negative"},
	{
		`{"close_code": {"restart": 1001}}`,
		"close_code 'restart': the cause must be one of admin, expired, keepalive_timeout, lifetime, recheck, reload, shutdown, upstream, upstream_timeout",
	},
	{`{"close_code": {"upstream": 1001}}`, "close_code 'upstream': only valid in passthrough mode"},
	{
		`{"close_code": {"reload": 1005}}`,
		"close_code reload '1005': it must be none or a code that a server may send: 1000 to 1003, 1007 to 1009, 1011 to 1014, or 3000 to 4999",
	},
	{`{"close_code": {"upstream_timeout": 4000}}`, "close_code 'upstream_timeout': only valid in passthrough mode"},
	{`{"upstream_keepalive_interval": 1000000000}`, "upstream_keepalive: only valid in passthrough mode"},
	{
		`{"mode": "passthrough", "upstream_keepalive_interval": -1}`,
		"upstream_keepalive_interval '-1ns': it can't be negative",
	},
	{
		`{"mode": "passthrough", "upstream_keepalive_timeout": 60000000000}`,
		"upstream_keepalive_timeout '1m0s': it can't be set without upstream_keepalive_interval",
	},
	{
		`{"mode": "passthrough", "upstream_keepalive_interval": 60000000000, "upstream_keepalive_timeout": 60000000000}`,
		"upstream_keepalive_timeout '1m0s': it must be longer than upstream_keepalive_interval, which is '1m0s'",
	},
	{`{"max_connections_per_client": -1}`, "max_connections_per_client '-1': it can't be negative"},
	{`{"max_message_size": -1}`, "max_message_size '-1': it can't be negative"},
	{`{"write_timeout": -1}`, "write_timeout '-1ns': it can't be negative"},
	{`{"max_lifetime": -1}`, "max_lifetime '-1ns': it can't be negative"},
	{`{"close_delay": -1}`, "close_delay '-1ns': it can't be negative"},

	{
		`{"allowed_origins": ["self", "example.com"]}`,
		"allowed_origins 'example.com': an origin is scheme://host[:port], 'self', 'null' or '*': write 'https://example.com'",
	},
	{
		`{"mode": "passthrough", "allowed_origins": ["https://example.com?app"]}`,
		"allowed_origins 'https://example.com?app': an origin has no user name, query or fragment: write 'https://example.com'",
	},
	{`{"allowed_origins": [""]}`, "allowed_origins '': an origin is scheme://host[:port], 'self', 'null' or '*'"},
}

func TestConfigRefusals(t *testing.T) {
	for _, test := range configRefusals {
		if _, err := load(t, []byte(test.config)); err == nil {
			t.Errorf("%s is accepted, want %q", test.config, test.message)
		} else if err.Error() != test.message {
			t.Errorf("%s:\n got %s\nwant %s", test.config, err, test.message)
		}
	}
}

func TestConfigLimits(t *testing.T) {
	for _, config := range []string{
		`{"buffer_size": 512}`,
		`{"buffer_size": 1048576}`,
		`{"keepalive_interval": 1, "keepalive_timeout": 2}`,
		`{"keepalive_interval": "-1h"}`,
		`{"max_connections": 10, "max_connections_per_client": 10}`,
		`{"max_connections_per_client": 10}`,
		`{"max_message_size": 1}`,
		`{"max_message_size": 9223372036854775807}`,
		"{\"subprotocols\": [\"!#$%&'*+-.^_`|~aA0\", \"chat\", \"Chat\"]}",
		`{"mode": "passthrough", "compression": "on", "allowed_origins": ["*"]}`,
		`{"console": true}`,
		`{"test_controls": true}`,
		`{"expires": "8h"}`,
		`{"recheck_interval": "1s", "recheck_routes": [{"handle": [{"handler": "static_response"}]}], "close_code": {"recheck": 4403}}`,
		`{"message_rate": {"limit": 9007199254740992, "per": 1}, "byte_rate": {"limit": 1, "per": "24h"}}`,
		`{"max_connections_per": {"{http.auth.user.id} {host}": 1}}`,
		`{"mode": "passthrough", "allowed_origins": ["*"], "max_message_size": 1, "max_message_size_from_upstream": -1}`,
		`{"allowed_origins": ["{env.ORIGINS}", "https://{http.request.host}/"]}`,
	} {
		if _, err := load(t, []byte(config)); err != nil {
			t.Errorf("%s: %v", config, err)
		}
	}
}

func TestPassthroughWarnsOfAnyOrigin(t *testing.T) {
	s := wstest.Start(t, `
		websocket /any passthrough
		websocket /meant passthrough {
			allowed_origins *
		}
		websocket /echo
	`)
	entries := s.Logs.Entries("pages of any origin may open sockets with their visitors' cookies; " +
		"name the origins in allowed_origins, or write '*' there if that is meant")
	if len(entries) != 1 {
		t.Fatalf("%d warnings, want 1", len(entries))
	}
	for _, e := range entries {
		if e["level"] != "warn" || e["logger"] != "http.handlers.websocket" {
			t.Errorf("logged as %v", e)
		}
	}
}

func FuzzCaddyfile(f *testing.F) {
	f.Add("keepalive 30s 75s\nbuffer_size 8KiB\nallowed_origins self https://*.example.com\nrequire_origin")
	f.Add("subprotocols v2.chat chat\ncompression on\nmax_message_size 1MB\nmax_connections 1000 10\nconsole\ntest_controls")
	f.Add("keepalive off\nwrite_timeout 5s\nmax_lifetime 1d\nclose_delay 1m30s\nallowed_origins {host}")
	f.Add("allowed_origins file:// qrc:// app://x wss://host moz-extension://* https://a.example/b {env.X}{host}")
	f.Add("max_message_size 9223372036854775807")
	f.Add("max_lifetime 2562047h47m16.854775807s")
	f.Add("keepalive 2562047h")
	f.Add("max_message_size 1 off\nmax_connections_per {http.auth.user.id} 1\nmax_connections_per {x} 2")
	f.Add("expires {http.auth.user.expires} 4401\nexpires 1h none")
	f.Add("message_rate 100 10s close\nbyte_rate 8PiB 1ns delay")
	f.Add("recheck 1m {\nrespond 401\n}\nrecheck 1m {\n}")
	f.Add("compression on takeover")
	f.Add("keepalive {\n}\nconsole {\n}\n}\n{")
	f.Fuzz(func(t *testing.T, body string) {
		for _, mode := range []string{modeEcho, modePassthrough} {
			h, err := parse("websocket " + mode + " {\n" + body + "\n}")
			if err != nil {
				continue
			}
			// The way of the adapter, on which numbers are floats for a while.
			load(t, caddyconfig.JSONModuleObject(h, "mode", mode, nil))
		}
	})
}
