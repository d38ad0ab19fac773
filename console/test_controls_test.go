package console_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest/browser"
)

const controlledSite = "log\nwebsocket /ws {\nconsole\ntest_controls\nsubprotocols chat\n}\nwebsocket /plain {\nconsole\n}"

// effect returns what the page says of the effect of the controls.
func effect(t *testing.T, c browser.Tab) map[string]string {
	t.Helper()
	var rows map[string]string
	c.Eval(t, `(async () => {
		await new Promise((resolve) => setTimeout(resolve, 150)); // it is drawn ten times a second
		return Object.fromEntries([...document.querySelectorAll('#effect div')].map((row) => [...row.children].map((cell) => cell.textContent)));
	})()`, &rows)
	return rows
}

func expectEffect(t *testing.T, c browser.Tab, want map[string]string) {
	t.Helper()
	got := effect(t, c)
	for name, beginning := range want {
		if text, ok := got[name]; !ok || !strings.HasPrefix(text, beginning) {
			t.Errorf("%s: %q, want %q; all is %q", name, text, beginning, got)
		}
	}
	if len(got) != len(want) {
		t.Errorf("the page says %q, want %q", got, want)
	}
}

// openControls opens the form of the test controls.
func openControls(t *testing.T, c *browser.Chromium, url string) {
	t.Helper()
	c.Open(t, url)
	c.Eval(t, `document.querySelector('#test-controls details').open = true`, nil)
}

// The form composes the URL, and the URL fills the form.
func TestControlsForm(t *testing.T) { //nolint:tparallel // they share a tab
	t.Parallel()
	c := newConsoleTab(t, 1280, 900)
	s := wstest.StartBeside(t, "", controlledSite)
	page := "http://" + s.Plain + "/ws"
	address := func() string {
		t.Helper()
		var url string
		c.Eval(t, `document.querySelector('#url').value`, &url)
		return strings.TrimPrefix(url, "ws://"+s.Plain+"/ws")
	}
	for _, step := range []struct{ field, value, want string }{
		{"delay", "300ms", "?hello&delay=300ms"},
		{"reason", "so long & bye", "?hello&delay=300ms&reason=so%20long%20%26%20bye"},
		{"close", "1012", "?hello&delay=300ms&close=1012&reason=so%20long%20%26%20bye"},
		{"reason", "", "?hello&delay=300ms&close=1012"},
		{"abort", "", "?hello&delay=300ms&close=1012&abort"},
		{"hello", "", "?delay=300ms&close=1012&abort"},
		{"close_reply", "", "?delay=300ms&close=1012&abort&close_reply=never"},
	} {
		if step.field == "delay" {
			openControls(t, c, page)
		}
		switch step.field {
		case "abort", "hello", "close_reply":
			c.Click(t, "#controls-form [name="+step.field+"]")
		default:
			c.Fill(t, "#control-"+step.field, step.value)
		}
		if got := address(); got != step.want {
			t.Errorf("%s=%s: the query is %s, want %s", step.field, step.value, got, step.want)
		}
	}
	c.Click(t, "#controls-form [type=reset]")
	browser.WaitFor(t, c, `!document.querySelector('#url').value.includes('?')`)

	openControls(t, c, page+"?token=1&fragment=7&close_reply=never")
	var filled string
	c.Eval(t, `[...document.querySelectorAll('#controls-form [name]')].filter((i) => i.type === 'checkbox' ? i.checked : i.value).map((i) => i.name).join(' ')`, &filled)
	if filled != "fragment close_reply" {
		t.Errorf("the form has %q", filled)
	}
	c.Fill(t, "#control-fragment", "8")
	if got := address(); got != "?token=1&fragment=8&close_reply=never" {
		t.Errorf("the query is %s", got)
	}
	c.Fill(t, "#control-fragment", "many")
	c.AwaitText(t, "#controls-error", "fragment “many”: enter a size up to 16MiB, such as 512 or 4KiB.")

	c.Open(t, "http://"+s.Plain+"/plain?delay=1s")
	var hidden bool
	if c.Eval(t, `document.querySelector('#test-controls').hidden`, &hidden); !hidden {
		t.Error("a page without test controls shows them")
	}
}

// The page says what has come of the controls.
func TestControlsEffect(t *testing.T) {
	t.Parallel()
	s := wstest.StartBeside(t, "", controlledSite)
	for _, b := range browser.All {
		t.Run(b.Name, func(t *testing.T) {
			t.Parallel()
			c := b.New(t)
			open := func(query string) {
				t.Helper()
				c.Open(t, "http://"+s.Plain+"/ws?"+query)
				c.Eval(t, `document.querySelector('#connect').click()`, nil)
			}
			closed := `document.querySelector('#state').dataset.state === 'closed'`
			send := func(text string) {
				t.Helper()
				browser.WaitFor(t, c, `!document.querySelector('#send').disabled`)
				c.Eval(t, `document.querySelector('#text').value = '`+text+`', document.querySelector('#send').click()`, nil)
			}
			open("hello&delay=200ms&drop=2&close=1012&reason=later&after=3&ping=1s")
			for _, text := range []string{"a", "b", "c"} {
				send(text)
			}
			browser.WaitFor(t, c, closed)
			expectEffect(t, c, map[string]string{
				"In force": "after=3 close=1012 delay=200ms drop=2 hello ping=1s reason=later",
				"Replies":  "2, 1 missing", "Delay": "", "Close": "1012 “later”, as asked for", "Not shown": "browsers hide ping",
			})
			if got := effect(t, c)["Delay"]; !strings.HasSuffix(got, ", asked for 200 ms") {
				t.Errorf("the delay is %s", got)
			}
			open("interval=0s&count=3&close=1006&after=4")
			send("x")
			browser.WaitFor(t, c, closed)
			expectEffect(t, c, map[string]string{
				"In force": "unknown without hello", "Replies": "1, 0 missing", "Unasked": "3 received", "Close": "1006, as asked for",
			})
			open("status=503")
			browser.WaitFor(t, c, closed)
			expectEffect(t, c, map[string]string{"Handshake": "refused, asked for 503", "Not shown": "browsers hide status"})
			open("delay=never")
			browser.WaitFor(t, c, closed)
			expectEffect(t, c, map[string]string{"Handshake": "refused: the server may not take these parameters"})
		})
	}
}

// TestControlsScreenshots is TestConsoleScreenshots for the form.
func TestControlsScreenshots(t *testing.T) {
	t.Parallel()
	c := newConsoleTab(t, 1280, 900)
	s := wstest.StartBeside(t, "", controlledSite)
	openControls(t, c, "http://"+s.Plain+"/ws?hello&delay=100ms&drop=3&close=1012&reason=back%20soon&after=4&fragment=x")
	c.Click(t, "#connect")
	browser.WaitFor(t, c, `document.querySelector('#state').dataset.state === 'closed'`)
	c.Fill(t, "#control-fragment", "7")
	c.Click(t, "#connect")
	for range 4 {
		browser.WaitFor(t, c, `!document.querySelector('#send').disabled`)
		c.Eval(t, `document.querySelector('#send').click()`, nil) // which moves as the effect is shown
	}
	browser.WaitFor(t, c, `document.querySelector('#state').dataset.state === 'closed'`)
	c.Fill(t, "#control-rate", "fast")
	for _, width := range []int{1280, 390} {
		c.Do(t, "Emulation.setDeviceMetricsOverride", browser.Params{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 900}, nil)
		effect(t, c)
		var overflow float64
		c.Eval(t, `document.documentElement.scrollWidth - innerWidth`, &overflow)
		if overflow > 0 {
			t.Errorf("at %d, the page is wider than the window, by %v", width, overflow)
		}
		c.Eval(t, `document.querySelector('#test-controls').scrollIntoView()`, nil)
		if err := os.WriteFile(filepath.Join(t.ArtifactDir(), "controls "+map[bool]string{true: "narrow", false: "wide"}[width < 900]+".png"), c.Capture(t), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
