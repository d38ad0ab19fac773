package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// repository is the root of the repository, all over which the documents lie.
const repository = "../.."

// caddyfileBlocks are the Caddyfiles that a document shows.
func caddyfileBlocks(t *testing.T, document string) []string {
	t.Helper()
	var blocks []string
	for _, m := range regexp.MustCompile("(?s)```caddyfile\n(.*?)```").FindAllStringSubmatch(wstest.ReadFile(t, document), -1) {
		blocks = append(blocks, m[1])
	}
	if len(blocks) == 0 {
		t.Errorf("%s shows no Caddyfile", document)
	}
	return blocks
}

// glob are the files of that pattern, of which there must be some.
func glob(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("no %s: %v", pattern, err)
	}
	return names
}

// The Caddyfiles that people copy are formatted and adapt.
func TestCaddyfilesAdapt(t *testing.T) {
	t.Chdir(repository)
	files := map[string]string{"Caddyfile.example": wstest.ReadFile(t, "Caddyfile.example")}
	for _, name := range glob(t, "examples/*/Caddyfile") {
		files[name] = wstest.ReadFile(t, name)
	}
	for _, document := range append(glob(t, "docs/*.md"), "README.md") {
		for i, block := range caddyfileBlocks(t, document) {
			files[fmt.Sprintf("%s, block %d", document, i+1)] = block
		}
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

// The recipes show the examples as they are, all of them, and the README names
// each.
func TestRecipesAreTheExamples(t *testing.T) {
	t.Chdir(repository)
	recipes, readme := wstest.ReadFile(t, "docs/recipes.md"), wstest.ReadFile(t, "README.md")
	blocks := caddyfileBlocks(t, "docs/recipes.md")
	for _, folder := range glob(t, "examples/*") {
		if strings.HasSuffix(folder, ".go") {
			continue
		}
		if !strings.Contains(recipes, "](../"+folder+")") {
			t.Errorf("docs/recipes.md has no link to %s", folder)
		}
		if !strings.Contains(readme, "]("+folder+")") {
			t.Errorf("README.md has no link to %s", folder)
		}
		if _, err := os.Stat(folder + "/Caddyfile"); err != nil {
			continue
		}
		i := slices.Index(blocks, wstest.ReadFile(t, folder+"/Caddyfile"))
		if i < 0 {
			t.Errorf("docs/recipes.md doesn't show %s/Caddyfile", folder)
			continue
		}
		blocks = slices.Delete(blocks, i, i+1)
	}
	for _, block := range blocks {
		t.Errorf("docs/recipes.md shows what is no example:\n%s", block)
	}
}

// The grammar stands in the README as it does in the code, and the table there
// has a row for each of its options.
func TestREADMEOptions(t *testing.T) {
	t.Chdir(repository)
	readme, code := wstest.ReadFile(t, "README.md"), wstest.ReadFile(t, "caddyfile.go")
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
