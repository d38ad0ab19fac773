// Package browser runs the browsers that tests control.
package browser

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// A Tab is a page in a browser.
type Tab interface {
	// Open goes to a URL and waits until the page has loaded.
	Open(t *testing.T, url string)
	// Eval evaluates an expression, waits for it if it is a promise, and puts its
	// value into result unless that is nil.
	Eval(t *testing.T, expression string, result any)
}

// All are the ways to get a tab.
var All = []struct {
	Name string
	New  func(*testing.T) Tab
}{
	{"chromium", func(t *testing.T) Tab { return NewChromium(t) }},
	{"firefox", func(t *testing.T) Tab { return NewFirefox(t) }},
}

// WaitFor waits until an expression of the page's is true.
func WaitFor(t *testing.T, b Tab, expression string) {
	t.Helper()
	var ok bool
	b.Eval(t, fmt.Sprintf(`new Promise((resolve) => {
		const end = performance.now() + %d;
		const look = () => {
			const yes = Boolean(%s);
			yes || performance.now() > end ? resolve(yes) : setTimeout(look, 10);
		};
		look();
	})`, wstest.Timeout.Milliseconds(), expression), &ok)
	if !ok {
		var state string
		b.Eval(t, `document.body.innerText`, &state)
		t.Fatalf("not true: %s\nThe page is:\n%.3000s", expression, state)
	}
}

// findBrowser is the first of the programs that there is.
func findBrowser(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	wstest.SkipWithout(t, strings.Join(names, ", ")+" in the PATH")
	return ""
}

// newProfile makes a directory for a browser. One that had to be killed may still
// write to it, which would fail a test that removes it.
func newProfile(t *testing.T) string {
	t.Helper()
	profile, err := os.MkdirTemp(wstest.TempDir, "browser")
	if err != nil {
		t.Fatal(err)
	}
	return profile
}
