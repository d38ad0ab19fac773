package console_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest/browser"
)

// savedEntry is a line of the file that the log is saved to.
type savedEntry struct {
	Time      time.Time
	Direction string
	Type      string
	Size      int
	RTT       float64 `json:"rtt_ms"`
	Text, Hex string
	File      string
	Truncated bool
	Code      int
	Reason    string
	Clean     bool
}

// saveLog presses Save and reads what the browser downloads.
func saveLog(t *testing.T, c *browser.Chromium) []savedEntry {
	t.Helper()
	dir := t.TempDir()
	c.Do(t, "Page.setDownloadBehavior", browser.Params{"behavior": "allow", "downloadPath": dir}, nil)
	c.Click(t, "#save")
	var files []string
	for end := time.Now().Add(wstest.Timeout); len(files) == 0 && time.Now().Before(end); {
		c.Eval(t, `new Promise((resolve) => setTimeout(resolve, 5))`, nil)
		files, _ = filepath.Glob(filepath.Join(dir, "websocket-*.jsonl")) // whole when it has this name
	}
	if len(files) != 1 {
		t.Fatalf("saved files are %q, want one", files)
	}
	content, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var entries []savedEntry
	for line := range bytes.Lines(content) {
		var e savedEntry
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		entries = append(entries, e)
	}
	return entries
}

func TestConsoleLog(t *testing.T) { //nolint:tparallel // they share a tab
	t.Parallel()
	c := newConsoleTab(t, 1280, 900)
	s := wstest.StartBeside(t, "", consoleBrowserSite)
	c.Open(t, "http://"+s.Plain+"/ws")
	c.AwaitText(t, "#empty", "Nothing has happened yet.")
	connect(t, c)
	for _, text := range []string{"apple", "Banana", "two\nlines", strings.Repeat("long", 1000)} {
		c.Fill(t, "#text", text)
		c.Click(t, "#send")
	}
	c.Click(t, "input[value=hex]")
	c.Fill(t, "#hex", "c0ffee")
	c.Press(t, "Enter")
	browser.WaitFor(t, c, `document.querySelector('#count').textContent === '12'`)

	for _, v := range []struct{ text, direction, shown string }{
		{"banana", "", "2 of 12"},
		{"banana", "received", "1 of 12"},
		{"c0 ff", "", "2 of 12"},
		{"binary", "sent", "1 of 12"},
		{"nowhere", "", "0 of 12"},
		{"", "event", "2 of 12"},
		{"", "", "12"},
	} {
		c.Fill(t, "#filter", v.text)
		c.Eval(t, fmt.Sprintf(`(() => {
			const select = document.querySelector('#filter-direction');
			select.value = %q;
			select.dispatchEvent(new Event('change'));
		})()`, v.direction), nil)
		browser.WaitFor(t, c, fmt.Sprintf(`document.querySelector('#count').textContent === %q`, v.shown))
		if v.shown == "0 of 12" {
			c.AwaitText(t, "#empty", "No entries match the filter.")
		}
	}
	t.Run("save", func(t *testing.T) { testSave(t, c) })
	t.Run("copy", func(t *testing.T) { testCopy(t, c) })
	t.Run("details", func(t *testing.T) { testDetails(t, c) })

	c.Click(t, "#clear")
	c.AwaitText(t, "#log-status", "Cleared")
	if rows := logRows(t, c); len(rows) != 0 || c.Text(t, "#count") != "0" {
		t.Errorf("the cleared log has %+v", rows)
	}
	c.ExpectNoComplaints(t)
}

func testSave(t *testing.T, c *browser.Chromium) {
	c.Click(t, "#close")
	c.AwaitText(t, "#state-name", "Closed")
	entries := saveLog(t, c)
	c.AwaitText(t, "#log-status", "Saved 14")
	if len(entries) != 14 {
		t.Fatalf("%d entries were saved, want 14", len(entries))
	}
	received := make(map[string]savedEntry)
	for _, e := range entries {
		if time.Since(e.Time).Abs() > time.Hour {
			t.Errorf("the time of %+v isn't now", e)
		}
		if e.Direction == "received" {
			received[e.Type+e.Text+e.Hex] = e
		}
	}
	if e := received["texttwo\nlines"]; e.Size != 9 || e.RTT <= 0 || e.Truncated {
		t.Errorf("of the two lines was saved %+v", e)
	}
	if e := received["binaryc0ffee"]; e.Size != 3 || e.RTT <= 0 || e.Truncated {
		t.Errorf("of the binary message was saved %+v", e)
	}
	if e := received["text"+strings.Repeat("long", 256)]; e.Size != 4000 || !e.Truncated {
		t.Errorf("of the long message was saved %+v", e)
	}
	if e := entries[13]; e.Type != "closed" || e.Code != 1000 || e.Reason != "" || !e.Clean {
		t.Errorf("of the end was saved %+v", e)
	}
}

func testCopy(t *testing.T, c *browser.Chromium) {
	c.Do(t, "Browser.grantPermissions", browser.Params{"permissions": []string{"clipboardReadWrite", "clipboardSanitizedWrite"}}, nil)
	c.Fill(t, "#filter", "apple")
	browser.WaitFor(t, c, `document.querySelector('#count').textContent.startsWith('2 of')`)
	for _, how := range []string{
		``,
		// Pages without TLS have no such interface, unless they are local.
		`Object.defineProperty(navigator, 'clipboard', { value: undefined, configurable: true })`,
	} {
		c.Eval(t, how+";navigator.clipboard?.writeText('nothing')", nil)
		c.Eval(t, `document.querySelector('#log-status').textContent = ''`, nil)
		c.Click(t, "#copy")
		c.AwaitText(t, "#log-status", "Copied 2")
		var copied string
		c.Eval(t, `delete navigator.clipboard; navigator.clipboard.readText()`, &copied)
		var want strings.Builder
		for _, row := range logRows(t, c) {
			want.WriteString(strings.Join([]string{row.Time, row.Direction, row.Type, row.Size, row.RTT, row.Preview}, "\t") + "\n")
		}
		if copied != want.String() || strings.Count(copied, "apple") != 2 {
			t.Errorf("copied is %q, want %q", copied, want.String())
		}
	}
	c.Fill(t, "#filter", "")
}

func testDetails(t *testing.T, c *browser.Chromium) {
	c.Eval(t, `document.querySelector('#log').focus()`, nil)
	for _, v := range []struct{ key, title, text string }{
		{"Home", "connect", "ws://127.0.0.1"},
		{"ArrowDown", "open", "in "},
		{"ArrowDown", "sent text · 5 bytes", "apple"},
		{"ArrowUp", "open", "in "},
		{"End", "closed", "1000 Normal closure · clean"},
	} {
		c.Press(t, v.key)
		c.AwaitText(t, "#detail-title", v.title)
		c.AwaitText(t, "#detail-text", v.text)
		var active string
		c.Eval(t, `(() => {
			const row = document.getElementById(document.querySelector('#log').getAttribute('aria-activedescendant'));
			return row.ariaSelected + ' ' + row.querySelector('.preview').textContent;
		})()`, &active)
		if !strings.HasPrefix(active, "true "+v.text) {
			t.Errorf("%s: the active row is %q, want one with %q", v.key, active, v.text)
		}
	}
	c.Click(t, "#log [data-direction=received][data-type=binary]")
	c.AwaitText(t, "#detail-text", "0000  c0 ff ee "+strings.Repeat(" ", 40)+"···")
	c.Click(t, "#detail-close")
	browser.WaitFor(t, c, `document.querySelector('#detail').hidden && document.activeElement.id === 'log'`)
}

// A log of twenty thousand entries has no more rows in the document than one of
// a hundred.
func TestConsoleLongLog(t *testing.T) {
	t.Parallel()
	c := newConsoleTab(t, 1280, 900)
	s := wstest.StartBeside(t, "", consoleBrowserSite)
	c.Open(t, "https://"+s.Secure+"/ws")
	connect(t, c)
	c.Fill(t, "#burst-count", "10000")
	c.Fill(t, "#burst-size", "16")
	c.Click(t, "#burst")
	for count := ""; count != "20,002"; count = c.Text(t, "#count") { // as long as it grows
		browser.WaitFor(t, c, fmt.Sprintf(`document.querySelector('#count').textContent !== %q`, count))
	}
	const most = 60
	at := func(what, first, last string) {
		t.Helper()
		rows := logRows(t, c)
		if len(rows) > most {
			t.Errorf("%s: %d rows are in the document, want %d at most", what, len(rows), most)
		}
		var seen []string
		c.Eval(t, `(() => {
			const { top, bottom } = document.querySelector('#log').getBoundingClientRect();
			const head = document.querySelector('#log .head').offsetHeight;
			return [...document.querySelectorAll('#log .body [role=row]')].filter((row) => {
				const box = row.getBoundingClientRect();
				return box.bottom > top + head + 1 && box.top < bottom - 1;
			}).map((row) => row.ariaRowIndex);
		})()`, &seen)
		if len(seen) == 0 || first != "" && seen[0] != first || last != "" && seen[len(seen)-1] != last {
			t.Errorf("%s: rows in view are %v, want them from %s to %s", what, seen, first, last)
		}
	}
	at("following", "", "20003")
	c.Eval(t, `document.querySelector('#log').focus()`, nil)
	c.Press(t, "Home")
	c.AwaitText(t, "#detail-title", "connect")
	at("the beginning", "2", "")
	c.Press(t, "End")
	c.AwaitText(t, "#detail-title", "received text · 16 bytes")
	at("the end", "", "20003")
	c.Eval(t, `document.querySelector('#log').scrollTop = 24 * 10000`, nil)
	browser.WaitFor(t, c, `!document.querySelector('#follow').hidden`)
	at("the middle", "10002", "")
	c.Click(t, "#follow")
	browser.WaitFor(t, c, `document.querySelector('#follow').hidden`)
	at("following again", "", "20003")

	c.Fill(t, "#filter", "9999.")
	browser.WaitFor(t, c, `document.querySelector('#count').textContent === '2 of 20,002'`)
	c.Fill(t, "#filter", "")
	browser.WaitFor(t, c, `document.querySelector('#count').textContent === '20,002'`)
	if entries := saveLog(t, c); len(entries) != 20_002 {
		t.Errorf("%d entries were saved, want 20002", len(entries))
	}
	c.ExpectNoComplaints(t)
}
