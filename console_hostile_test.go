package caddywebsocket

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// hostile is text that would do something if it became markup.
const hostile = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>"'><b>&lt;`

// Whatever arrives stays text.
func TestConsoleHostile(t *testing.T) {
	c := newConsoleTab(t, 1280, 900)
	s := startForOthers(t, "websocket /ws* {\nconsole\n}")
	address := "http://" + s.plain + "/ws" + url.PathEscape(hostile) + "?" + hostile + "#" + hostile
	c.open(t, address)
	var elements int
	c.eval(t, `document.querySelectorAll('*').length - document.querySelectorAll('#log *').length`, &elements)

	connect(t, c)
	c.fill(t, "#text", hostile)
	c.press(t, "Enter")
	expectEcho(t, c, "text", fmt.Sprintf("%d B", len(hostile)), hostile)
	c.click(t, "#log [data-direction=received]")
	c.awaitText(t, "#detail-text", hostile)

	name := strings.ReplaceAll(hostile, "/", "∕")
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(hostile), 0o600); err != nil {
		t.Fatal(err)
	}
	c.click(t, "input[value=file]")
	chooseFile(t, c, path)
	c.awaitText(t, "#message-hint", name)
	c.click(t, "#send")
	waitFor(t, c, `[...document.querySelectorAll('#log .type')].at(-1).textContent === 'binary'`)
	c.press(t, "Tab")
	c.click(t, "#log [data-direction=sent][data-type=binary]")
	c.awaitText(t, "#detail-title", name)

	c.fill(t, "#filter", hostile)
	c.fill(t, "#filter", "")
	for selector, text := range map[string]string{"#protocols": "<b>", "#url": hostile + "://", "#interval": "1"} {
		c.fill(t, selector, text)
	}
	c.fill(t, "#close-code", hostile)
	c.click(t, "#close")
	c.awaitText(t, "#close-error", hostile)
	c.fill(t, "#close-code", "3000")
	c.fill(t, "#close-reason", hostile)
	c.click(t, "#close")
	c.awaitText(t, "#state-detail", hostile)
	c.press(t, "Enter") // on Connect
	c.awaitText(t, "#connect-error", "“<b>” is not a valid subprotocol")

	var after int
	c.eval(t, `document.querySelectorAll('*').length - document.querySelectorAll('#log *').length`, &after)
	if after != elements {
		t.Errorf("the page had %d elements outside of the log's rows, and has %d", elements, after)
	}
	var strangers []string
	c.eval(t, `[...document.querySelectorAll('#log *')].filter(({ tagName }) => tagName !== 'DIV').map(({ tagName }) => tagName)`, &strangers)
	if len(strangers) > 0 {
		t.Errorf("the log has elements %q", strangers)
	}
	if title := c.text(t, "title"); !strings.HasPrefix(title, "Closed") {
		t.Errorf("the title is %q", title)
	}
	c.expectNoComplaints(t)
}

// The browser enforces the policy, and this test would see it if the page met it.
func TestConsolePolicyHolds(t *testing.T) {
	c := newConsoleTab(t, 1280, 900)
	s := startForOthers(t, "websocket /ws {\nconsole\n}\nheader /frame Content-Type text/html\nrespond `<iframe src=\"/ws\"></iframe>`")
	c.open(t, "http://"+s.plain+"/ws")
	c.expectNoComplaints(t)
	var isolated bool
	if c.eval(t, `crossOriginIsolated`, &isolated); !isolated {
		t.Error("the page shares its process with others, so its clock is coarse")
	}
	for _, deed := range []struct{ name, script, complaint string }{
		{"style", `document.head.append(Object.assign(document.createElement('style'), { textContent: 'p {}' }))`, "style-src"},
		{"script", `document.head.append(Object.assign(document.createElement('script'), { type: 'module', src: 'data:text/javascript,' }))`, "Trusted"},
		{"markup", `document.body.innerHTML = '<p>'`, "Trusted"},
		{"fetch", `fetch('/')`, "connect-src"},
		{"image", `document.body.append(Object.assign(new Image(), { src: '/x.png' }))`, "img-src"},
		{"frame", `document.body.append(Object.assign(document.createElement('iframe'), { src: '/' }))`, "default-src"},
	} {
		var thrown string
		c.eval(t, fmt.Sprintf(`(async () => { %s })().then(() => '', String)`, deed.script), &thrown)
		if !c.awaitComplaint(t, deed.complaint) {
			t.Errorf("%s: no complaint about %s; thrown was %q", deed.name, deed.complaint, thrown)
		}
	}
	c.open(t, "http://"+s.plain+"/frame")
	if !c.awaitComplaint(t, "frame-ancestors") {
		t.Error("the page is in a frame")
	}
}
