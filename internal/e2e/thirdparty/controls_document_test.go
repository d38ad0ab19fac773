package thirdparty

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest/browser"
)

// A recipe is a section of docs/test-controls.md.
type recipe struct {
	name, url string
	code      map[string]string // by the client that it is for
}

// clientNames are the clients for which each recipe has code.
var clientNames = []string{"Browser", "Node.js, ws", "Python, websockets", "Go, coder/websocket", "websocat"}

func readRecipes(t *testing.T) []recipe {
	t.Helper()
	_, text, _ := strings.Cut(wstest.ReadFile(t, "../../../docs/test-controls.md"), "## Recipes")
	url := regexp.MustCompile("(?m)^`wss://echo\\.example\\.com(/.*)`$")
	block := regexp.MustCompile("(?s)```[a-z]+\n(?://|#) ([^\n]*)\n(.*?)```")
	var recipes []recipe
	for _, section := range strings.Split(text, "\n### ")[1:] {
		r := recipe{code: make(map[string]string)}
		r.name, section, _ = strings.Cut(section, "\n")
		found := url.FindStringSubmatch(section)
		if found == nil {
			t.Fatalf("%s: there is no URL", r.name)
		}
		r.url = found[1]
		for _, m := range block.FindAllStringSubmatch(section, -1) {
			r.code[m[1]] = m[2]
		}
		for _, client := range clientNames {
			if r.code[client] == "" {
				t.Errorf("%s: there is no code for %s", r.name, client)
			}
		}
		recipes = append(recipes, r)
	}
	return recipes
}

// expected are the lines that code prints, as its comments say.
func expected(code string) (lines []string) {
	for line := range strings.SplitSeq(code, "\n") {
		for _, printed := range strings.Split(line, "→ ")[1:] {
			lines = append(lines, strings.TrimSpace(printed))
		}
	}
	return lines
}

// The recipes do what the document says, with each client.
func TestControlsDocument(t *testing.T) {
	t.Parallel()
	s := wstest.StartBeside(t, "", "websocket {\ntest_controls\nconsole\n}")
	recipes := readRecipes(t)
	if len(recipes) < 10 {
		t.Errorf("there are only %d recipes", len(recipes))
	}
	for client, run := range map[string]func(t *testing.T, s *wstest.Server, recipes []recipe){
		"Browser": runInBrowser, "Node.js, ws": runInNode, "Python, websockets": runInPython, "Go, coder/websocket": runInGo,
	} {
		t.Run(client, func(t *testing.T) {
			t.Parallel()
			run(t, &s.Server, recipes)
		})
	}
}

// together is JavaScript that runs all recipes for a client at once; it is a promise of what
// each prints.
func together(s *wstest.Server, recipes []recipe, client string) string {
	var all []string
	for _, r := range recipes {
		code := r.code[client]
		all = append(all, fmt.Sprintf(`new Promise((resolve) => {
			const url = %q, lines = [];
			const console = { log(...words) { if (lines.push(words.join(' ')) === %d) resolve(lines) } };
			setTimeout(() => resolve(lines), 15000);
			%s
		})`, "ws://"+s.Plain+r.url, len(expected(code)), code))
	}
	return "Promise.all([" + strings.Join(all, ",\n") + "])"
}

func checkAll(t *testing.T, recipes []recipe, client string, printed [][]string) {
	t.Helper()
	for i, r := range recipes {
		check(t, r, client, printed[i])
	}
}

func runInBrowser(t *testing.T, s *wstest.Server, recipes []recipe) {
	const client = "Browser"
	tab := browser.NewChromium(t)
	tab.Open(t, "http://"+s.Plain+"/")
	var printed [][]string
	tab.Eval(t, together(s, recipes, client), &printed)
	checkAll(t, recipes, client, printed)
}

func runInNode(t *testing.T, s *wstest.Server, recipes []recipe) {
	const client = "Node.js, ws"
	checkAll(t, recipes, client, evalInNode(t, together(s, recipes, client)))
}

func check(t *testing.T, r recipe, client string, printed []string) {
	t.Helper()
	if want := expected(r.code[client]); !slices.Equal(printed, want) || len(want) == 0 {
		t.Errorf("%s: %s prints %q, want %q", r.name, client, printed, want)
	}
}

// runEach runs a program for each recipe at once, until it has printed what it should.
func runEach(t *testing.T, recipes []recipe, client string, command func(i int, r recipe) *exec.Cmd) {
	t.Run("recipes", func(t *testing.T) {
		for i, r := range recipes {
			t.Run(r.name, func(t *testing.T) {
				t.Parallel()
				check(t, r, client, runProgram(t, command(i, r), len(expected(r.code[client]))))
			})
		}
	})
}

// runProgram runs a program until it has printed so many lines.
func runProgram(t *testing.T, cmd *exec.Cmd, lines int) (printed []string) {
	t.Helper()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for in := bufio.NewScanner(stdout); len(printed) < lines && in.Scan(); {
		printed = append(printed, in.Text())
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if len(printed) < lines {
		t.Logf("%s", stderr.String())
	}
	return printed
}

// bounded is a context for a program that may hang.
func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*wstest.Timeout)
	t.Cleanup(cancel)
	return ctx
}

// findPython returns a Python that has the websockets package.
func findPython(t *testing.T) string {
	t.Helper()
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if exec.CommandContext(t.Context(), python, "-c", "import websockets").Run() == nil {
			return python
		}
	}
	wstest.SkipWithout(t, "Python's websockets package")
	return ""
}

func runInPython(t *testing.T, s *wstest.Server, recipes []recipe) {
	const client = "Python, websockets"
	python, ctx := findPython(t), bounded(t)
	runEach(t, recipes, client, func(_ int, r recipe) *exec.Cmd {
		body := "    " + strings.ReplaceAll(strings.TrimSpace(r.code[client]), "\n", "\n    ")
		return exec.CommandContext(ctx, python, "-u", "-c",
			fmt.Sprintf("import asyncio\nfrom websockets import connect, ConnectionClosedError, InvalidHandshake\nurl = %q\nasync def main():\n%s\nasyncio.run(main())\n", "ws://"+s.Plain+r.url, body))
	})
}

// goProgram is a program with the code of all recipes, of which it runs one.
const goProgram = `package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/coder/websocket"
)

var _, _, _ = errors.Is, io.EOF, time.Second

func main() {
	i, _ := strconv.Atoi(os.Args[1])
	recipes[i](context.Background(), os.Args[2])
}

var recipes = []func(ctx context.Context, url string){
%s}
`

func runInGo(t *testing.T, s *wstest.Server, recipes []recipe) {
	const client = "Go, coder/websocket"
	var all strings.Builder
	for _, r := range recipes {
		fmt.Fprintf(&all, "\tfunc(ctx context.Context, url string) {\n%s\t},\n", r.code[client])
	}
	dir, ctx := t.TempDir(), bounded(t)
	source, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "recipes")
	if err := os.WriteFile(source, fmt.Appendf(nil, goProgram, all.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.CommandContext(ctx, "go", "build", "-o", program, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	runEach(t, recipes, client, func(i int, r recipe) *exec.Cmd {
		return exec.CommandContext(ctx, program, fmt.Sprint(i), "ws://"+s.Plain+r.url)
	})
}
