package console_test

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest/browser"
)

// hostile is text that would do something if it became markup.
const hostile = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>"'><b>&lt;`

// Whatever arrives stays text.
func TestConsoleHostile(t *testing.T) {
	t.Parallel()
	c := newConsoleTab(t, 1280, 900)
	s := wstest.StartBeside(t, "", "websocket /ws* {\nconsole\n}")
	address := "http://" + s.Plain + "/ws" + url.PathEscape(hostile) + "?" + hostile + "#" + hostile
	c.Open(t, address)
	var elements int
	c.Eval(t, `document.querySelectorAll('*').length - document.querySelectorAll('#log *').length`, &elements)

	connect(t, c)
	c.Fill(t, "#text", hostile)
	c.Press(t, "Enter")
	expectEcho(t, c, "text", fmt.Sprintf("%d B", len(hostile)), hostile)
	c.Click(t, "#log [data-direction=received]")
	c.AwaitText(t, "#detail-text", hostile)

	name := strings.ReplaceAll(hostile, "/", "∕")
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(hostile), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Click(t, "input[value=file]")
	chooseFile(t, c, path)
	c.AwaitText(t, "#message-hint", name)
	c.Click(t, "#send")
	browser.WaitFor(t, c, `[...document.querySelectorAll('#log .type')].at(-1).textContent === 'binary'`)
	c.Press(t, "Tab")
	c.Click(t, "#log [data-direction=sent][data-type=binary]")
	c.AwaitText(t, "#detail-title", name)

	c.Fill(t, "#filter", hostile)
	c.Fill(t, "#filter", "")
	for selector, text := range map[string]string{"#protocols": "<b>", "#url": hostile + "://", "#interval": "1"} {
		c.Fill(t, selector, text)
	}
	c.Fill(t, "#close-code", hostile)
	c.Click(t, "#close")
	c.AwaitText(t, "#close-error", hostile)
	c.Fill(t, "#close-code", "3000")
	c.Fill(t, "#close-reason", hostile)
	c.Click(t, "#close")
	c.AwaitText(t, "#state-detail", hostile)
	c.Press(t, "Enter") // on Connect
	c.AwaitText(t, "#connect-error", "“<b>” is not a valid subprotocol")

	var after int
	c.Eval(t, `document.querySelectorAll('*').length - document.querySelectorAll('#log *').length`, &after)
	if after != elements {
		t.Errorf("the page had %d elements outside of the log's rows, and has %d", elements, after)
	}
	var strangers []string
	c.Eval(t, `[...document.querySelectorAll('#log *')].filter(({ tagName }) => tagName !== 'DIV').map(({ tagName }) => tagName)`, &strangers)
	if len(strangers) > 0 {
		t.Errorf("the log has elements %q", strangers)
	}
	if title := c.Text(t, "title"); !strings.HasPrefix(title, "Closed") {
		t.Errorf("the title is %q", title)
	}
	c.ExpectNoComplaints(t)
}

// The browser enforces the policy, and this test would see it if the page met it.
func TestConsolePolicyHolds(t *testing.T) {
	t.Parallel()
	c := newConsoleTab(t, 1280, 900)
	s := wstest.StartBeside(t, "", "websocket /ws {\nconsole\n}\nheader /frame Content-Type text/html\nrespond `<iframe src=\"/ws\"></iframe>`")
	c.Open(t, "http://"+s.Plain+"/ws")
	c.ExpectNoComplaints(t)
	var isolated bool
	if c.Eval(t, `crossOriginIsolated`, &isolated); !isolated {
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
		c.Eval(t, fmt.Sprintf(`(async () => { %s })().then(() => '', String)`, deed.script), &thrown)
		if !c.AwaitComplaint(t, deed.complaint) {
			t.Errorf("%s: no complaint about %s; thrown was %q", deed.name, deed.complaint, thrown)
		}
	}
	c.Open(t, "http://"+s.Plain+"/frame")
	if !c.AwaitComplaint(t, "frame-ancestors") {
		t.Error("the page is in a frame")
	}
}
