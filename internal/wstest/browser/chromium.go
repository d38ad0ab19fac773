package browser

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// A Chromium is a tab of Chromium.
type Chromium struct {
	*remote
	session string
	loaded  chan struct{}

	mu         sync.Mutex // guards complaints
	complaints []string   // of the page and about it, on the console
}

// chromium is the Chromium of the test binary: to start one takes seconds.
var chromium struct {
	sync.Once
	*remote
	tabs sync.Map // each by its session
}

// NewChromium opens a tab of Chromium. Tabs share the process and a profile: a browser
// context of its own costs each as much again as the page, and pages of servers on
// different ports have storage of their own anyway, only no cookies.
func NewChromium(t *testing.T) *Chromium {
	t.Helper()
	path := findBrowser(t, "chromium", "chromium-browser", "google-chrome")
	chromium.Do(func() { chromium.remote = startChromium(t, path) })
	if chromium.remote == nil {
		t.Fatal("Chromium doesn't start")
	}
	c := &Chromium{remote: chromium.remote, loaded: make(chan struct{}, 1)}
	var target struct{ TargetID string }
	var attached struct{ SessionID string }
	c.Do(t, "Target.createTarget", Params{"url": "about:blank"}, &target)
	t.Cleanup(func() {
		if err := c.call("", "Target.closeTarget", Params{"targetId": target.TargetID}, nil); err != nil {
			t.Error(err)
		}
		chromium.tabs.Delete(c.session)
	})
	c.Do(t, "Target.attachToTarget", Params{"targetId": target.TargetID, "flatten": true}, &attached)
	c.session = attached.SessionID
	chromium.tabs.Store(c.session, c)
	for _, domain := range []string{"Page", "Runtime", "Log", "Accessibility", "DOM"} {
		c.Do(t, domain+".enable", nil, nil)
	}
	return c
}

func startChromium(t *testing.T, path string) *remote {
	t.Helper()
	return startBrowser(t, wstest.AtExit, regexp.MustCompile(`^DevTools listening on (ws://\S+)`), "",
		func(session, method string, params json.RawMessage) {
			if c, ok := chromium.tabs.Load(session); ok {
				c.(*Chromium).event(method, params)
			}
		},
		path,
		"--headless",
		"--no-sandbox", // which needs what containers lack
		"--disable-gpu",
		"--disable-quic", // HTTP/2 is wanted
		"--no-first-run",
		"--disable-background-networking",
		"--disable-component-update",
		"--disable-sync",
		"--ignore-certificate-errors",
		"--hide-scrollbars",
		"--disable-lcd-text", // pictures are for any screen
		"--remote-debugging-port=0",
		"--user-data-dir="+newProfile(t))
}

// Params are the parameters of a command.
type Params map[string]any

// Do is a command that must succeed.
func (c *Chromium) Do(t *testing.T, method string, p Params, result any) {
	t.Helper()
	if err := c.call(c.session, method, p, result); err != nil {
		t.Fatal(err)
	}
}

func (c *Chromium) event(method string, data json.RawMessage) {
	var complaint struct {
		Type             string // of a call of console
		Args             json.RawMessage
		ExceptionDetails json.RawMessage
		Entry            struct{ Level, Text, URL string }
	}
	_ = json.Unmarshal(data, &complaint) // other events have other fields
	switch method {
	case "Page.loadEventFired":
		c.loaded <- struct{}{}
	case "Runtime.consoleAPICalled":
		c.complain("console.%s: %s", complaint.Type, complaint.Args)
	case "Runtime.exceptionThrown":
		c.complain("exception: %s", complaint.ExceptionDetails)
	case "Log.entryAdded":
		c.complain("%s: %s %s", complaint.Entry.Level, complaint.Entry.Text, complaint.Entry.URL)
	}
}

func (c *Chromium) complain(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.complaints = append(c.complaints, fmt.Sprintf(format, args...))
}

// ExpectNoComplaints makes sure that nothing is on the console but lines that
// contain one of the given texts.
func (c *Chromium) ExpectNoComplaints(t *testing.T, but ...string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, complaint := range c.complaints {
		if !slices.ContainsFunc(but, func(text string) bool { return strings.Contains(complaint, text) }) {
			t.Errorf("on the console: %s", complaint)
		}
	}
}

// AwaitComplaint waits for a line that contains the given text, and takes all
// lines away.
func (c *Chromium) AwaitComplaint(t *testing.T, text string) bool {
	t.Helper()
	for end := time.Now().Add(wstest.Timeout); time.Now().Before(end); {
		c.Eval(t, `new Promise((resolve) => setTimeout(resolve, 5))`, nil)
		c.mu.Lock()
		found := slices.ContainsFunc(c.complaints, func(complaint string) bool { return strings.Contains(complaint, text) })
		if found {
			c.complaints = nil
		}
		c.mu.Unlock()
		if found {
			return true
		}
	}
	return false
}

// Open implements [Tab].
func (c *Chromium) Open(t *testing.T, url string) {
	t.Helper()
	var navigated struct{ ErrorText string }
	c.Do(t, "Page.navigate", Params{"url": url}, &navigated)
	if navigated.ErrorText != "" {
		t.Fatalf("opening %s: %s", url, navigated.ErrorText)
	}
	<-c.loaded
}

// Eval implements [Tab].
func (c *Chromium) Eval(t *testing.T, expression string, result any) {
	t.Helper()
	var evaluated struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct{ Exception struct{ Description string } }
	}
	c.Do(t, "Runtime.evaluate", Params{
		"expression":    expression,
		"awaitPromise":  true,
		"returnByValue": true,
		"userGesture":   true,
	}, &evaluated)
	if e := evaluated.ExceptionDetails; e != nil {
		t.Fatalf("evaluating %s: %s", expression, e.Exception.Description)
	}
	if result == nil {
		return
	}
	if err := json.Unmarshal(evaluated.Result.Value, result); err != nil {
		t.Fatalf("evaluating %s: %v", expression, err)
	}
}

// Click presses the mouse on an element, which must not be covered.
func (c *Chromium) Click(t *testing.T, selector string) {
	t.Helper()
	var at *struct{ X, Y float64 }
	c.Eval(t, fmt.Sprintf(`(() => {
		const element = document.querySelector(%q);
		element.scrollIntoView({ block: 'nearest' });
		const { left, top, width, height } = element.getBoundingClientRect();
		const [x, y] = [left + width / 2, top + height / 2];
		const hit = document.elementFromPoint(x, y);
		return element.contains(hit) || element.closest('label')?.contains(hit) ? { x, y } : null;
	})()`, selector), &at)
	if at == nil {
		t.Fatalf("%s can't be clicked", selector)
	}
	for _, kind := range []string{"mousePressed", "mouseReleased"} {
		c.Do(t, "Input.dispatchMouseEvent", Params{
			"type": kind, "x": at.X, "y": at.Y, "button": "left", "clickCount": 1,
		}, nil)
	}
}

// Fill replaces what is in an input field.
func (c *Chromium) Fill(t *testing.T, selector, text string) {
	t.Helper()
	c.Eval(t, fmt.Sprintf(`document.querySelector(%q).focus(); document.querySelector(%[1]q).select()`, selector), nil)
	if text == "" {
		c.Press(t, "Delete")
		return
	}
	c.Do(t, "Input.insertText", Params{"text": text}, nil)
}

// Press presses a key, with modifiers of the sum alt 1, ctrl 2, meta 4, shift 8.
func (c *Chromium) Press(t *testing.T, key string, modifiers ...int) {
	t.Helper()
	codes := map[string]int{
		"Enter": 13, "Escape": 27, " ": 32, "End": 35, "Home": 36, "ArrowUp": 38, "ArrowDown": 40, "Delete": 46, "Tab": 9,
	}
	p := Params{"type": "keyDown", "key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
	switch key {
	case "Enter":
		p["text"] = "\r"
	case " ":
		p["text"], p["code"] = " ", "Space"
	}
	for _, m := range modifiers {
		p["modifiers"] = m
	}
	c.Do(t, "Input.dispatchKeyEvent", p, nil)
	delete(p, "text")
	p["type"] = "keyUp"
	c.Do(t, "Input.dispatchKeyEvent", p, nil)
}

// Text is the text content of an element.
func (c *Chromium) Text(t *testing.T, selector string) string {
	t.Helper()
	var text string
	c.Eval(t, fmt.Sprintf(`document.querySelector(%q).textContent`, selector), &text)
	return strings.TrimSpace(text)
}

// AwaitText waits until the text of an element contains what is given.
func (c *Chromium) AwaitText(t *testing.T, selector, text string) {
	t.Helper()
	WaitFor(t, c, fmt.Sprintf(`document.querySelector(%q).textContent.includes(%q)`, selector, text))
}

// Media sets what the person in front of the browser prefers.
func (c *Chromium) Media(t *testing.T, feature, value string) {
	t.Helper()
	c.Do(t, "Emulation.setEmulatedMedia", Params{"features": []Params{{"name": feature, "value": value}}}, nil)
}

// Capture makes a picture of the window.
func (c *Chromium) Capture(t *testing.T) []byte {
	t.Helper()
	var picture struct{ Data []byte }
	c.Do(t, "Page.captureScreenshot", Params{"format": "png"}, &picture)
	return picture.Data
}
