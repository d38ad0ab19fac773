package caddywebsocket

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata/adapt and the console's screenshot")

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

func TestConfigRefusals(t *testing.T) {
	tests := []struct{ config, message string }{
		{`{"mode": "proxy"}`, "mode 'proxy': it must be echo or passthrough"},
		{`{"mode": "Echo"}`, "mode 'Echo': it must be echo or passthrough"},

		{
			`{"keepalive_interval": -1, "keepalive_timeout": "1m"}`,
			"keepalive_timeout '1m0s': there is none when keepalive is off",
		},
		{
			`{"keepalive_interval": "30s", "keepalive_timeout": "30s"}`,
			"keepalive_timeout '30s': it must be longer than the interval, which is '30s'",
		},
		{
			`{"keepalive_interval": "30s", "keepalive_timeout": "20s"}`,
			"keepalive_timeout '20s': it must be longer than the interval, which is '30s'",
		},
		{
			`{"keepalive_interval": "30s", "keepalive_timeout": "-1s"}`,
			"keepalive_timeout '-1s': it must be longer than the interval, which is '30s'",
		},
		{
			`{"keepalive_timeout": "1m"}`,
			"keepalive_timeout '1m0s': it must be longer than the interval, which is '2m0s'",
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
			"subprotocols 'chat v2.chat': in passthrough the next handler chooses",
		},
		{
			`{"subprotocols": ["chat", "chat room"]}`,
			"subprotocols 'chat room': it must be a token, of letters, digits and !#$%&'*+-.^_`|~",
		},
		{
			`{"subprotocols": ["chat,v2.chat"]}`,
			"subprotocols 'chat,v2.chat': it must be a token, of letters, digits and !#$%&'*+-.^_`|~",
		},
		{
			`{"subprotocols": [""]}`,
			"subprotocols '': it must be a token, of letters, digits and !#$%&'*+-.^_`|~",
		},
		{`{"subprotocols": ["chat", "v2.chat", "chat"]}`, "subprotocols 'chat': it stands twice"},

		{`{"mode": "passthrough", "console": true}`, "console: it is for echo, not for passthrough"},

		{`{"compression": "gzip"}`, "compression 'gzip': it must be on or off"},
		{`{"compression": "true"}`, "compression 'true': it must be on or off"},
		{`{"mode": "passthrough", "compression": "gzip"}`, "compression 'gzip': it must be on or off"},

		{
			`{"max_connections": 10, "max_connections_per_client": 11}`,
			"max_connections_per_client '11': it can't be more than max_connections, which is '10'",
		},
		{`{"max_connections": -1}`, "max_connections '-1': it can't be negative"},
		{`{"max_connections_per_client": -1}`, "max_connections_per_client '-1': it can't be negative"},
		{`{"max_message_size": -1}`, "max_message_size '-1': it can't be negative"},
		{`{"write_timeout": -1}`, "write_timeout '-1ns': it can't be negative"},
		{`{"max_lifetime": -1}`, "max_lifetime '-1ns': it can't be negative"},
		{`{"close_delay": -1}`, "close_delay '-1ns': it can't be negative"},

		{
			`{"allowed_origins": ["self", "example.com"]}`,
			"allowed_origins 'example.com': " + formRule + ": write 'https://example.com'",
		},
		{
			`{"mode": "passthrough", "allowed_origins": ["https://example.com/app"]}`,
			"allowed_origins 'https://example.com/app': " + urlRule + ": write 'https://example.com'",
		},
		{`{"allowed_origins": [""]}`, "allowed_origins '': " + formRule},
	}
	for _, test := range tests {
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
		`{"allowed_origins": ["{env.ORIGINS}", "https://{http.request.host}/"]}`,
	} {
		if _, err := load(t, []byte(config)); err != nil {
			t.Errorf("%s: %v", config, err)
		}
	}
}

func TestDefaults(t *testing.T) {
	const echo = `{"mode":"echo","keepalive_interval":120000000000,"keepalive_timeout":240000000000,` +
		`"buffer_size":4096,"compression":"off","write_timeout":10000000000}`
	tests := []struct{ directive, config, want string }{
		{"websocket", `{}`, echo},
		{"websocket echo", `{"mode": "echo"}`, echo},
		{
			"websocket passthrough", `{"mode": "passthrough"}`,
			`{"mode":"passthrough","keepalive_interval":120000000000,"keepalive_timeout":240000000000,` +
				`"buffer_size":4096,"write_timeout":10000000000}`,
		},
		{
			"websocket {\nkeepalive 30s\n}", `{"keepalive_interval": "30s"}`,
			`{"mode":"echo","keepalive_interval":30000000000,"keepalive_timeout":60000000000,` +
				`"buffer_size":4096,"compression":"off","write_timeout":10000000000}`,
		},
		{
			"websocket {\nkeepalive off\n}", `{"keepalive_interval": -1}`,
			`{"mode":"echo","keepalive_interval":-1,` +
				`"buffer_size":4096,"compression":"off","write_timeout":10000000000}`,
		},
	}
	for _, test := range tests {
		h, err := parse(test.directive)
		if err != nil {
			t.Errorf("%q: %v", test.directive, err)
			continue
		}
		for _, config := range [][]byte{mustJSON(h), []byte(test.config)} {
			if h, err := load(t, config); err != nil {
				t.Errorf("%q: %s: %v", test.directive, config, err)
			} else if got := string(mustJSON(h)); got != test.want {
				t.Errorf("%q: %s:\n got %s\nwant %s", test.directive, config, got, test.want)
			}
		}
	}
}

func TestPassthroughWarnsOfAnyOrigin(t *testing.T) {
	s := start(t, `
		websocket /any passthrough
		websocket /meant passthrough {
			allowed_origins *
		}
		websocket /echo
	`)
	entries := s.logs.entries("pages of any origin may open sockets with their visitors' cookies; " +
		"name the origins in allowed_origins, or write '*' there if that is meant")
	if len(entries) != 2 { // one for each server
		t.Fatalf("%d warnings, want 2", len(entries))
	}
	for _, e := range entries {
		if e["level"] != "warn" || e["logger"] != "http.handlers.websocket" {
			t.Errorf("logged as %v", e)
		}
	}
}

// TestOptionsAgree compares the options of the grammar comment with those of
// the parser, of the JSON and of the golden files.
func TestOptionsAgree(t *testing.T) {
	source, err := parser.ParseFile(token.NewFileSet(), "caddyfile.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	options := grammar(source)
	if len(options) == 0 {
		t.Fatal("no options in the grammar comment")
	}
	known := func(option string) bool {
		_, err := parse("websocket {\n" + option + "\n}")
		return err == nil || !strings.Contains(err.Error(), "unrecognized websocket option")
	}
	for _, option := range options {
		if !known(option) {
			t.Errorf("option %s of the grammar comment is unknown to the parser", option)
		}
		if _, err := os.Stat("testdata/adapt/option_" + option + ".caddyfiletest"); err != nil {
			t.Errorf("option %s has no golden file: %v", option, err)
		}
	}
	// The parser knows no more than its own source names.
	ast.Inspect(source, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			word, err := strconv.Unquote(lit.Value)
			if err == nil && !strings.ContainsAny(word, " /") && known(word) && !slices.Contains(options, word) {
				t.Errorf("option %s of the parser is not in the grammar comment", word)
			}
		}
		return true
	})
	fields := []string{"mode"}
	for _, option := range options {
		switch option {
		case "keepalive":
			fields = append(fields, "keepalive_interval", "keepalive_timeout")
		case "max_connections":
			fields = append(fields, option, "max_connections_per_client")
		default:
			fields = append(fields, option)
		}
	}
	if got := jsonNames(); !slices.Equal(got, fields) {
		t.Errorf("the fields in JSON are\n%v, want\n%v", got, fields)
	}
}

// grammar gives the options in the comment on UnmarshalCaddyfile.
func grammar(source *ast.File) []string {
	var options []string
	for _, decl := range source.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Name.Name == "UnmarshalCaddyfile" {
			for _, m := range regexp.MustCompile(`(?m)^\t\t(\w+)`).FindAllStringSubmatch(f.Doc.Text(), -1) {
				options = append(options, m[1])
			}
		}
	}
	return options
}

// jsonNames gives the names of the fields of Handler in JSON.
func jsonNames() []string {
	var names []string
	for _, field := range reflect.VisibleFields(reflect.TypeFor[Handler]()) {
		if field.IsExported() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			names = append(names, name)
		}
	}
	return names
}

// TestFieldCommentsEndInDefault reads the comments that are the documentation
// of the JSON.
func TestFieldCommentsEndInDefault(t *testing.T) {
	source, err := parser.ParseFile(token.NewFileSet(), "module.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	handler, ok := source.Scope.Lookup("Handler").Decl.(*ast.TypeSpec)
	if !ok {
		t.Fatal("no type Handler")
	}
	for _, field := range handler.Type.(*ast.StructType).Fields.List {
		for _, name := range field.Names {
			if !name.IsExported() {
				continue
			}
			lines := strings.Split(strings.TrimSpace(field.Doc.Text()), "\n")
			if last := lines[len(lines)-1]; !strings.HasPrefix(last, "Default: ") {
				t.Errorf("the comment on %s ends in %q", name, last)
			}
			if strings.HasPrefix(lines[0], name.Name) {
				t.Errorf("the comment on %s starts with its name, which the documentation doesn't show", name)
			}
		}
	}
}

func FuzzCaddyfile(f *testing.F) {
	f.Add("keepalive 30s 75s\nbuffer_size 8KiB\nallowed_origins self https://*.example.com\nrequire_origin")
	f.Add("subprotocols v2.chat chat\ncompression on\nmax_message_size 1MB\nmax_connections 1000 10\nconsole")
	f.Add("keepalive off\nwrite_timeout 5s\nmax_lifetime 1d\nclose_delay 1m30s\nallowed_origins {host}")
	f.Add("max_message_size 9223372036854775807")
	f.Add("max_lifetime 2562047h47m16.854775807s")
	f.Add("keepalive 2562047h")
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
