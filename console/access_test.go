package console_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest/browser"
)

// consoleControls are the controls of the page, by the role and the name that
// they have for those who don't see it.
var consoleControls = []string{
	"textbox URL",
	"textbox Subprotocols to offer",
	"button Connect",
	"radio Text",
	"radio Hex",
	"radio File",
	"textbox Text to send",
	"button Send",
	"switch Repeat every",
	"spinbutton Interval in milliseconds",
	"spinbutton Messages in a burst",
	"spinbutton Bytes per message in a burst",
	"button Start",
	"textbox Code",
	"textbox Reason",
	"button Close Socket",
	"searchbox Filter by text",
	"combobox Filter by direction",
	"button Copy",
	"button Save",
	"button Clear",
	"grid Communication Log",
}

func TestConsoleAccessibility(t *testing.T) { //nolint:tparallel // they share a tab
	t.Parallel()
	c := newConsoleTab(t, 1280, 900)
	s := wstest.StartBeside(t, "", consoleBrowserSite)
	c.Open(t, "https://"+s.Secure+"/ws")
	type node struct {
		Ignored    bool
		Role, Name struct{ Value string }
	}
	var tree struct{ Nodes []node }
	c.Do(t, "Accessibility.getFullAXTree", nil, &tree)
	interactive := []string{
		"textbox", "searchbox", "combobox", "spinbutton", "button", "radio", "switch", "checkbox", "grid", "link", "slider",
	}
	var found []string
	landmarks := make(map[string]bool)
	for _, n := range tree.Nodes {
		if n.Ignored {
			continue
		}
		name := strings.TrimRight(n.Name.Value, " 0123456789") // the log's has a count
		if slices.Contains(interactive, n.Role.Value) {
			found = append(found, n.Role.Value+" "+name)
		}
		landmarks[n.Role.Value+" "+name] = true
	}
	slices.Sort(found)
	if want := slices.Sorted(slices.Values(consoleControls)); !slices.Equal(found, want) {
		t.Errorf("controls are\n%q, want\n%q", found, want)
	}
	for _, want := range []string{
		"banner ", "main ", "heading WebSocket console", "heading Message", "heading Traffic", "heading Close",
		"heading Round trips", "heading Communication Log", "region Communication Log", "group Type", "status ",
		"columnheader Time", "columnheader Direction", "columnheader Type", "columnheader Size", "columnheader RTT",
		"columnheader Preview", "image Round-trip times of the last  seconds",
	} {
		if !landmarks[strings.Replace(want, "last  seconds", "last 30 seconds", 1)] {
			t.Errorf("not in the accessibility tree: %s", want)
		}
	}
	t.Run("keyboard", func(t *testing.T) { testKeyboard(t, c) })
	t.Run("live regions", func(t *testing.T) { testLiveRegions(t, c) })
	t.Run("reduced motion", func(t *testing.T) {
		const animation = `(() => {
			document.querySelector('#state').dataset.state = 'connecting';
			return getComputedStyle(document.querySelector('.dot')).animationName;
		})()`
		for preference, want := range map[string]string{"no-preference": "pulse", "reduce": "none"} {
			c.Media(t, "prefers-reduced-motion", preference)
			var name string
			if c.Eval(t, animation, &name); name != want {
				t.Errorf("with %s the animation is %q, want %q", preference, name, want)
			}
		}
	})
}

// testKeyboard goes around the page with the Tab key and does all with it.
func testKeyboard(t *testing.T, c *browser.Chromium) {
	around := func() (ids []string) {
		t.Helper()
		c.Eval(t, `document.querySelector('#url').focus()`, nil)
		for range 2 * len(consoleControls) {
			var stop struct {
				ID      string
				Outline string
			}
			c.Eval(t, `(({ id, value, nextElementSibling, parentElement }) => {
				const { outlineStyle } = getComputedStyle(document.activeElement);
				const drawn = [outlineStyle, nextElementSibling && getComputedStyle(nextElementSibling).outlineStyle,
					getComputedStyle(parentElement, '::after').outlineStyle];
				return { id: id || value && 'type ' + value || 'body', outline: drawn.find((style) => style && style !== 'none') ?? '' };
			})(document.activeElement)`, &stop)
			if stop.ID == "body" || slices.Contains(ids, stop.ID) {
				break
			}
			if stop.Outline == "" {
				t.Errorf("nothing shows that the focus is on %s", stop.ID)
			}
			ids = append(ids, stop.ID)
			c.Press(t, "Tab")
		}
		return ids
	}
	ready := []string{
		"url", "protocols", "connect", "type text", "text", "interval", "burst-count", "burst-size",
		"close-code", "close-reason", "filter", "filter-direction", "copy", "save", "clear", "log",
	}
	open := []string{
		"url", "protocols", "type text", "text", "send", "repeat", "interval", "burst-count", "burst-size", "burst",
		"close-code", "close-reason", "close", "filter", "filter-direction", "copy", "save", "clear", "log",
	}
	if got := around(); !slices.Equal(got, ready) {
		t.Errorf("the Tab key goes to\n%q, want\n%q", got, ready)
	}
	c.Eval(t, `document.querySelector('#url').focus()`, nil)
	c.Press(t, "Enter")
	c.AwaitText(t, "#state-name", "Open")
	if got := around(); !slices.Equal(got, open) {
		t.Errorf("with an open socket the Tab key goes to\n%q, want\n%q", got, open)
	}
	c.Eval(t, `document.querySelector('#repeat').focus()`, nil)
	c.Press(t, " ")
	browser.WaitFor(t, c, `document.querySelector('#repeat').checked && document.querySelector('#log [data-direction=received]')`)
	c.Press(t, " ")
	c.Eval(t, `document.querySelector('#close-reason').focus()`, nil)
	c.Press(t, "Enter")
	c.AwaitText(t, "#state-name", "Closed")
}

// testLiveRegions makes sure that what changes by itself is announced.
func testLiveRegions(t *testing.T, c *browser.Chromium) {
	for selector, role := range map[string]string{
		"#state": "status", "#log-status": "status", "#burst-result": "status",
		"#connect-error": "alert", "#message-error": "alert", "#traffic-error": "alert", "#close-error": "alert",
	} {
		var got string
		c.Eval(t, fmt.Sprintf(`document.querySelector(%q).role`, selector), &got)
		if got != role {
			t.Errorf("the role of %s is %q, want %s", selector, got, role)
		}
	}
}
