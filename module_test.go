package caddywebsocket

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
	_ "github.com/seed-21dbdb71/caddy-websocket/internal/wstest/inprocess"
)

func TestDefaults(t *testing.T) {
	const echo = `{"mode":"echo","keepalive_interval":120000000000,"keepalive_timeout":240000000000,` +
		`"buffer_size":4096,"compression":"off","write_timeout":10000000000,"log_subprotocol":"plain"}`
	tests := []struct{ directive, config, want string }{
		{"websocket", `{}`, echo},
		{"websocket echo", `{"mode": "echo"}`, echo},
		{
			"websocket passthrough", `{"mode": "passthrough"}`,
			`{"mode":"passthrough","keepalive_interval":30000000000,"keepalive_timeout":60000000000,` +
				`"buffer_size":4096,"write_timeout":10000000000,"log_subprotocol":"plain"}`,
		},
		{
			"websocket {\nkeepalive 30s\n}", `{"keepalive_interval": "30s"}`,
			`{"mode":"echo","keepalive_interval":30000000000,"keepalive_timeout":60000000000,` +
				`"buffer_size":4096,"compression":"off","write_timeout":10000000000,"log_subprotocol":"plain"}`,
		},
		{
			"websocket {\nkeepalive off\n}", `{"keepalive_interval": -1}`,
			`{"mode":"echo","keepalive_interval":-1,` +
				`"buffer_size":4096,"compression":"off","write_timeout":10000000000,"log_subprotocol":"plain"}`,
		},
	}
	for _, test := range tests {
		h, err := parse(test.directive)
		if err != nil {
			t.Errorf("%q: %v", test.directive, err)
			continue
		}
		for _, config := range [][]byte{wstest.JSON(h), []byte(test.config)} {
			if h, err := load(t, config); err != nil {
				t.Errorf("%q: %s: %v", test.directive, config, err)
			} else if got := string(wstest.JSON(h)); got != test.want {
				t.Errorf("%q: %s:\n got %s\nwant %s", test.directive, config, got, test.want)
			}
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
		case "keepalive", "upstream_keepalive":
			fields = append(fields, option+"_interval", option+"_timeout")
		case "max_connections":
			fields = append(fields, option, "max_connections_per_client")
		case "recheck":
			fields = append(fields, "recheck_interval", "recheck_routes")
		case "compression":
			fields = append(fields, option, "context_takeover")
		case "max_message_size":
			fields = append(fields, option, "max_message_size_from_upstream")
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

func TestMain(m *testing.M) { wstest.Main(m) }

// A request that is no handshake gets what the next handler answers.
func TestOtherRequestsPass(t *testing.T) {
	for _, mode := range []string{modeEcho, modePassthrough} {
		h := &Handler{Mode: mode}
		provision(t, h)
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r = r.WithContext(context.WithValue(r.Context(), caddy.ReplacerCtxKey, caddy.NewReplacer()))
		w := httptest.NewRecorder()
		next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
			w.WriteHeader(http.StatusTeapot)
			return nil
		})
		if err := h.ServeHTTP(w, r, next); err != nil || w.Code != http.StatusTeapot {
			t.Errorf("%s: status %d, %v", mode, w.Code, err)
		}
	}
}

// Cleanup with nothing open leaves nothing behind, and may come twice.
func TestCleanup(t *testing.T) {
	h := new(Handler)
	provision(t, h)
	for range 2 {
		if err := h.Cleanup(); err != nil {
			t.Fatal(err)
		}
	}
	sessions.mu.Lock()
	defer sessions.mu.Unlock()
	if !h.unloaded || sessions.byHandler[h] != nil {
		t.Error("the handler is still known")
	}
}

// A program that embeds Caddy imports this package beside Caddy's standard modules
// and adapts a Caddyfile to JSON, which caddy.Load then runs. Programs can also load
// JSON of their own.
func ExampleHandler() {
	const caddyfile = `
		:8080 {
			websocket passthrough {
				keepalive 30s
				allowed_origins self
			}
			reverse_proxy localhost:3000
		}
	`
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), nil)
	if err != nil {
		log.Fatal(err)
	}
	// To serve it: err = caddy.Load(config, false)
	var indented bytes.Buffer
	if err := json.Indent(&indented, config, "", "  "); err != nil {
		log.Fatal(err)
	}
	fmt.Println(indented.String())

	// Output:
	// {
	//   "apps": {
	//     "http": {
	//       "servers": {
	//         "srv0": {
	//           "listen": [
	//             ":8080"
	//           ],
	//           "routes": [
	//             {
	//               "handle": [
	//                 {
	//                   "allowed_origins": [
	//                     "self"
	//                   ],
	//                   "handler": "websocket",
	//                   "keepalive_interval": 30000000000,
	//                   "mode": "passthrough"
	//                 },
	//                 {
	//                   "handler": "reverse_proxy",
	//                   "upstreams": [
	//                     {
	//                       "dial": "localhost:3000"
	//                     }
	//                   ]
	//                 }
	//               ]
	//             }
	//           ]
	//         }
	//       }
	//     }
	//   }
	// }
}
