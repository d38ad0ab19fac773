package caddywebsocket

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A tab is a page in a browser.
type tab interface {
	// open goes to a URL and waits until the page has loaded.
	open(t *testing.T, url string)
	// eval evaluates an expression, waits for it if it is a promise, and puts its
	// value into result unless that is nil.
	eval(t *testing.T, expression string, result any)
}

// browsers are the ways to get a tab.
var browsers = []struct {
	name string
	tab  func(*testing.T) tab
}{
	{"chromium", func(t *testing.T) tab { return newChromium(t) }},
	{"firefox", func(t *testing.T) tab { return newFirefox(t) }},
}

// waitFor waits until an expression of the page's is true.
func waitFor(t *testing.T, b tab, expression string) {
	t.Helper()
	var ok bool
	b.eval(t, fmt.Sprintf(`new Promise((resolve) => {
		const end = performance.now() + %d;
		const look = () => {
			const yes = Boolean(%s);
			yes || performance.now() > end ? resolve(yes) : setTimeout(look, 10);
		};
		look();
	})`, patience.Milliseconds(), expression), &ok)
	if !ok {
		var state string
		b.eval(t, `document.body.innerText`, &state)
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
	skipWithout(t, strings.Join(names, ", ")+" in the PATH")
	return ""
}

// newProfile makes a directory for a browser. One that had to be killed may still
// write to it, which would fail a test that removes it.
func newProfile(t *testing.T) string {
	t.Helper()
	profile, err := os.MkdirTemp(tempDir, "browser")
	if err != nil {
		t.Fatal(err)
	}
	return profile
}
