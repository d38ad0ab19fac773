package thirdparty

import (
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

// checkAll makes sure that the recipes have printed what is written next to them.
func checkAll(t *testing.T, recipes []recipe, client string, printed [][]string) {
	t.Helper()
	for i, r := range recipes {
		if want := expected(r.code[client]); !slices.Equal(printed[i], want) || len(want) == 0 {
			t.Errorf("%s: %s prints %q, want %q", r.name, client, printed[i], want)
		}
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

// pythonProgram runs all recipes, each in a coroutine that has a print of its own.
const pythonProgram = `
import asyncio, json, sys
from websockets import connect, ConnectionClosedError, InvalidHandshake

%s
async def run(recipe, url):
    lines = []
    await recipe(url, lambda *words: lines.append(' '.join(map(str, words))))
    return lines

async def main():
    print(json.dumps(await asyncio.gather(%s)))

asyncio.run(main())
`

func runInPython(t *testing.T, s *wstest.Server, recipes []recipe) {
	const client = "Python, websockets"
	var functions strings.Builder
	var calls []string
	for i, r := range recipes {
		body := strings.ReplaceAll(strings.TrimSpace(r.code[client]), "\n", "\n    ")
		fmt.Fprintf(&functions, "async def recipe%d(url, print):\n    %s\n\n", i, body)
		calls = append(calls, fmt.Sprintf("run(recipe%d, %q)", i, "ws://"+s.Plain+r.url))
	}
	program := fmt.Sprintf(pythonProgram, functions.String(), strings.Join(calls, ", "))
	checkAll(t, recipes, client, runJSON(t, exec.CommandContext(bounded(t), findPython(t), "-c", program)))
}

// goProgram runs all recipes, each in a goroutine that has an fmt of its own.
const goProgram = `package main

import (
	"context"
	"encoding/json"
	"errors"
	stdfmt "fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

var _, _, _ = errors.Is, io.EOF, time.Second

type printer struct{ lines []string }

func (p *printer) Println(words ...any) {
	p.lines = append(p.lines, strings.TrimSuffix(stdfmt.Sprintln(words...), "\n"))
}

func main() {
	printed := make([][]string, len(recipes))
	var wg sync.WaitGroup
	for i, recipe := range recipes {
		wg.Go(func() {
			var p printer
			recipe(context.Background(), os.Args[1+i], &p)
			printed[i] = p.lines
		})
	}
	wg.Wait()
	json.NewEncoder(os.Stdout).Encode(printed)
}

var recipes = []func(ctx context.Context, url string, fmt *printer){
%s}
`

func runInGo(t *testing.T, s *wstest.Server, recipes []recipe) {
	const client = "Go, coder/websocket"
	var functions strings.Builder
	args := []string{"run", filepath.Join(t.TempDir(), "main.go")}
	for _, r := range recipes {
		fmt.Fprintf(&functions, "\tfunc(ctx context.Context, url string, fmt *printer) {\n%s\t},\n", r.code[client])
		args = append(args, "ws://"+s.Plain+r.url)
	}
	if err := os.WriteFile(args[1], fmt.Appendf(nil, goProgram, functions.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	checkAll(t, recipes, client, runJSON(t, exec.CommandContext(bounded(t), "go", args...)))
}
