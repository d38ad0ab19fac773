package caddywebsocket

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
func saveLog(t *testing.T, c *chromium) []savedEntry {
	t.Helper()
	dir := t.TempDir()
	c.do(t, "Page.setDownloadBehavior", params{"behavior": "allow", "downloadPath": dir}, nil)
	c.click(t, "#save")
	var files []string
	for end := time.Now().Add(patience); len(files) == 0 && time.Now().Before(end); {
		c.eval(t, `new Promise((resolve) => setTimeout(resolve, 5))`, nil)
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

func TestConsoleLog(t *testing.T) {
	c := newConsoleTab(t, 1280, 900)
	s := startForOthers(t, consoleBrowserSite)
	c.open(t, "http://"+s.plain+"/ws")
	c.awaitText(t, "#empty", "Nothing has happened yet.")
	connect(t, c)
	for _, text := range []string{"apple", "Banana", "two\nlines", strings.Repeat("long", 1000)} {
		c.fill(t, "#text", text)
		c.click(t, "#send")
	}
	c.click(t, "input[value=hex]")
	c.fill(t, "#hex", "c0ffee")
	c.press(t, "Enter")
	waitFor(t, c, `document.querySelector('#count').textContent === '12'`)

	for _, v := range []struct{ text, direction, shown string }{
		{"banana", "", "2 of 12"},
		{"banana", "received", "1 of 12"},
		{"c0 ff", "", "2 of 12"},
		{"binary", "sent", "1 of 12"},
		{"nowhere", "", "0 of 12"},
		{"", "event", "2 of 12"},
		{"", "", "12"},
	} {
		c.fill(t, "#filter", v.text)
		c.eval(t, fmt.Sprintf(`(() => {
			const select = document.querySelector('#filter-direction');
			select.value = %q;
			select.dispatchEvent(new Event('change'));
		})()`, v.direction), nil)
		waitFor(t, c, fmt.Sprintf(`document.querySelector('#count').textContent === %q`, v.shown))
		if v.shown == "0 of 12" {
			c.awaitText(t, "#empty", "No entries match the filter.")
		}
	}
	t.Run("save", func(t *testing.T) { testSave(t, c) })
	t.Run("copy", func(t *testing.T) { testCopy(t, c) })
	t.Run("details", func(t *testing.T) { testDetails(t, c) })

	c.click(t, "#clear")
	c.awaitText(t, "#log-status", "Cleared")
	if rows := logRows(t, c); len(rows) != 0 || c.text(t, "#count") != "0" {
		t.Errorf("the cleared log has %+v", rows)
	}
	c.expectNoComplaints(t)
}

func testSave(t *testing.T, c *chromium) {
	c.click(t, "#close")
	c.awaitText(t, "#state-name", "Closed")
	entries := saveLog(t, c)
	c.awaitText(t, "#log-status", "Saved 14")
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

func testCopy(t *testing.T, c *chromium) {
	c.do(t, "Browser.grantPermissions", params{"permissions": []string{"clipboardReadWrite", "clipboardSanitizedWrite"}}, nil)
	c.fill(t, "#filter", "apple")
	waitFor(t, c, `document.querySelector('#count').textContent.startsWith('2 of')`)
	for _, how := range []string{
		``,
		// Pages without TLS have no such interface, unless they are local.
		`Object.defineProperty(navigator, 'clipboard', { value: undefined, configurable: true })`,
	} {
		c.eval(t, how+";navigator.clipboard?.writeText('nothing')", nil)
		c.eval(t, `document.querySelector('#log-status').textContent = ''`, nil)
		c.click(t, "#copy")
		c.awaitText(t, "#log-status", "Copied 2")
		var copied string
		c.eval(t, `delete navigator.clipboard; navigator.clipboard.readText()`, &copied)
		var want strings.Builder
		for _, row := range logRows(t, c) {
			want.WriteString(strings.Join([]string{row.Time, row.Direction, row.Type, row.Size, row.RTT, row.Preview}, "\t") + "\n")
		}
		if copied != want.String() || strings.Count(copied, "apple") != 2 {
			t.Errorf("copied is %q, want %q", copied, want.String())
		}
	}
	c.fill(t, "#filter", "")
}

func testDetails(t *testing.T, c *chromium) {
	c.eval(t, `document.querySelector('#log').focus()`, nil)
	for _, v := range []struct{ key, title, text string }{
		{"Home", "connect", "ws://127.0.0.1"},
		{"ArrowDown", "open", "in "},
		{"ArrowDown", "sent text · 5 bytes", "apple"},
		{"ArrowUp", "open", "in "},
		{"End", "closed", "1000 Normal closure · clean"},
	} {
		c.press(t, v.key)
		c.awaitText(t, "#detail-title", v.title)
		c.awaitText(t, "#detail-text", v.text)
		var active string
		c.eval(t, `(() => {
			const row = document.getElementById(document.querySelector('#log').getAttribute('aria-activedescendant'));
			return row.ariaSelected + ' ' + row.querySelector('.preview').textContent;
		})()`, &active)
		if !strings.HasPrefix(active, "true "+v.text) {
			t.Errorf("%s: the active row is %q, want one with %q", v.key, active, v.text)
		}
	}
	c.click(t, "#log [data-direction=received][data-type=binary]")
	c.awaitText(t, "#detail-text", "0000  c0 ff ee "+strings.Repeat(" ", 40)+"···")
	c.click(t, "#detail-close")
	waitFor(t, c, `document.querySelector('#detail').hidden && document.activeElement.id === 'log'`)
}

// A log of a hundred thousand entries has no more rows in the document than one of
// a hundred.
func TestConsoleLongLog(t *testing.T) {
	c := newConsoleTab(t, 1280, 900)
	s := startForOthers(t, consoleBrowserSite)
	c.open(t, "https://"+s.secure+"/ws")
	connect(t, c)
	c.fill(t, "#burst-count", "50000")
	c.fill(t, "#burst-size", "16")
	c.click(t, "#burst")
	for count := ""; count != "100,002"; count = c.text(t, "#count") { // as long as it grows
		waitFor(t, c, fmt.Sprintf(`document.querySelector('#count').textContent !== %q`, count))
	}
	const most = 60
	at := func(what, first, last string) {
		t.Helper()
		rows := logRows(t, c)
		if len(rows) > most {
			t.Errorf("%s: %d rows are in the document, want %d at most", what, len(rows), most)
		}
		var seen []string
		c.eval(t, `(() => {
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
	at("following", "", "100003")
	c.eval(t, `document.querySelector('#log').focus()`, nil)
	c.press(t, "Home")
	c.awaitText(t, "#detail-title", "connect")
	at("the beginning", "2", "")
	c.press(t, "End")
	c.awaitText(t, "#detail-title", "received text · 16 bytes")
	at("the end", "", "100003")
	c.eval(t, `document.querySelector('#log').scrollTop = 24 * 50000`, nil)
	waitFor(t, c, `!document.querySelector('#follow').hidden`)
	at("the middle", "50002", "")
	c.click(t, "#follow")
	waitFor(t, c, `document.querySelector('#follow').hidden`)
	at("following again", "", "100003")

	c.fill(t, "#filter", "49999.")
	waitFor(t, c, `document.querySelector('#count').textContent === '2 of 100,002'`)
	c.fill(t, "#filter", "")
	waitFor(t, c, `document.querySelector('#count').textContent === '100,002'`)
	if entries := saveLog(t, c); len(entries) != 100_002 {
		t.Errorf("%d entries were saved, want 100002", len(entries))
	}
	c.expectNoComplaints(t)
}
