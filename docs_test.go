package caddywebsocket

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// readFile reads a file of the repository.
func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The Caddyfiles that people copy are formatted and adapt.
func TestCaddyfilesAdapt(t *testing.T) {
	files := map[string]string{"Caddyfile.example": readFile(t, "Caddyfile.example")}
	for _, m := range regexp.MustCompile("(?s)```caddyfile\n(.*?)```").FindAllStringSubmatch(readFile(t, "README.md"), -1) {
		name, _, _ := strings.Cut(m[1], "\n")
		files["README.md: "+name] = m[1]
	}
	if len(files) < 2 {
		t.Error("README.md shows no Caddyfile")
	}
	for name, text := range files {
		_, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, w := range warnings {
			t.Errorf("%s: %s", name, w.Message)
		}
	}
}

// The grammar stands in the README as it does in the code, and the table there
// has a row for each of its options.
func TestREADMEOptions(t *testing.T) {
	readme, code := readFile(t, "README.md"), readFile(t, "caddyfile.go")
	block := regexp.MustCompile(`(?s)//\twebsocket \[<matcher>\].*?//\t}\n`).FindString(code)
	grammar := strings.ReplaceAll(block, "//\t", "")
	if grammar == "" || !strings.Contains(readme, grammar) {
		t.Errorf("README.md doesn't have the grammar of caddyfile.go:\n%s", grammar)
	}
	var options, rows []string
	for _, m := range regexp.MustCompile(`(?m)^\t(\w+)`).FindAllStringSubmatch(grammar, -1) {
		options = append(options, m[1])
	}
	table := readme[strings.Index(readme, "| option |"):]
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\|").FindAllStringSubmatch(table[:strings.Index(table, "\n\n")], -1) {
		rows = append(rows, m[1])
	}
	if !slices.Equal(options, rows) {
		t.Errorf("options of the grammar: %v\nrows of the README's table: %v", options, rows)
	}
}
