package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// documents are all of the repository's texts.
func documents(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"*.md", ".github/*.md", "docs/*.md", "examples/*/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	return files
}

// Links lead to files that are there, and to headings that they have.
func TestLinks(t *testing.T) {
	t.Chdir(repository)
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, file := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(wstest.ReadFile(t, file), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			target := file
			if path != "" {
				target = filepath.Join(filepath.Dir(file), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", file, m[1], err)
			} else if anchor != "" && !anchors(wstest.ReadFile(t, target))[anchor] {
				t.Errorf("%s links to %s, and there is no such heading", file, m[1])
			}
		}
	}
}

// anchors are the anchors of a document's headings, as GitHub makes them.
func anchors(text string) map[string]bool {
	found := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		text := regexp.MustCompile(`\[([^]]*)\]\([^)]*\)`).ReplaceAllString(strings.ToLower(m[1]), "$1")
		word := regexp.MustCompile(`[^\w\- ]`).ReplaceAllString(text, "")
		found[strings.ReplaceAll(word, " ", "-")] = true
	}
	return found
}

// The tests that the documents name are there.
func TestNamedTests(t *testing.T) {
	t.Chdir(repository)
	code := testCode(t)
	for _, file := range documents(t) {
		for _, name := range regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(wstest.ReadFile(t, file), -1) {
			if !strings.Contains(code, "func "+name[1]+"(") {
				t.Errorf("%s names %s, which is not there", file, name[1])
			}
		}
	}
}

func testCode(t *testing.T) string {
	t.Helper()
	var code strings.Builder
	for _, pattern := range []string{"*_test.go", "*/*_test.go", "internal/*/*_test.go", "internal/*/*/*_test.go"} {
		for _, file := range glob(t, pattern) {
			code.WriteString(wstest.ReadFile(t, file))
		}
	}
	return code.String()
}

// JSON that stands below a Caddyfile is the handler that it adapts to.
func TestJSONBesideCaddyfile(t *testing.T) {
	t.Chdir(repository)
	pair := regexp.MustCompile("(?s)```caddyfile\n([^`]*)```\n\n```json\n(\\{[^`]*)```")
	pairs := 0
	for _, file := range documents(t) {
		for _, m := range pair.FindAllStringSubmatch(wstest.ReadFile(t, file), -1) {
			pairs++
			adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(m[1]), nil)
			if err != nil {
				t.Fatal(err)
			}
			var config, shown any
			if err := json.Unmarshal(adapted, &config); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(m[2]), &shown); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if got := findHandler(config); !reflect.DeepEqual(got, shown) {
				t.Errorf("%s shows\n%v, the Caddyfile adapts to\n%v", file, shown, got)
			}
		}
	}
	if pairs == 0 {
		t.Error("no document shows the same config twice")
	}
}

// findHandler finds a handler of ours in a config.
func findHandler(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if v["handler"] == "websocket" {
			return v
		}
		for _, child := range v {
			if h := findHandler(child); h != nil {
				return h
			}
		}
	case []any:
		for _, child := range v {
			if h := findHandler(child); h != nil {
				return h
			}
		}
	}
	return nil
}

// shownBy names the test that shows each row of the README's table of statuses
// and close codes.
var shownBy = map[string]string{
	"101, or 200 on HTTP/2 and HTTP/3": "TestAccessLog",
	"400":                              "TestHandshakeRefused",
	"403":                              "TestRefusedBeforeUpstream",
	"405, 426":                         "TestHandshakeMethodAndVersion",
	"501":                              "TestConnectRefused",
	"503":                              "TestMaxConnections",
	"the client's own code":            "TestEndsOfEcho",
	"1012":                             "TestEndByShutdown",
	"1002":                             "TestConformance",
	"1007":                             "TestConformance",
	"1008, or the code you choose":     "TestAdminAPI",
	"1009":                             "TestRequestBodyLimit",
}

func TestCodesAreShown(t *testing.T) {
	t.Chdir(repository)
	table := wstest.ReadFile(t, "README.md")
	table = table[strings.Index(table, "| status or close code |"):]
	table = table[:strings.Index(table, "\n\n")]
	rows := 0
	for _, m := range regexp.MustCompile(`(?m)^\| ([^|-][^|]*) \|`).FindAllStringSubmatch(table, -1)[1:] {
		rows++
		if shownBy[m[1]] == "" {
			t.Errorf("no test is named for the row %q", m[1])
		}
	}
	if rows != len(shownBy) {
		t.Errorf("%d rows, %d tests", rows, len(shownBy))
	}
	code := testCode(t)
	for row, name := range shownBy {
		if !strings.Contains(code, "func "+name+"(") {
			t.Errorf("%s is to be shown by %s, which is not there", row, name)
		}
	}
}
