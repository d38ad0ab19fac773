package caddywebsocket

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// consoleControls are the controls of the page, by the role and the name that
// they have for those who don't see it.
var consoleControls = []string{
	"textbox URL",
	"textbox Sub-protocols to offer",
	"button Connect",
	"radio Text",
	"radio Hex",
	"radio File",
	"textbox Text to send",
	"button Send",
	"switch Repeat every",
	"spinbutton Interval in milliseconds",
	"spinbutton Messages in a burst",
	"spinbutton Bytes in each message of a burst",
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

func TestConsoleAccessibility(t *testing.T) {
	c := newConsoleTab(t, 1280, 900)
	s := startForOthers(t, consoleBrowserSite)
	c.open(t, "https://"+s.secure+"/ws")
	type node struct {
		Ignored    bool
		Role, Name struct{ Value string }
	}
	var tree struct{ Nodes []node }
	c.do(t, "Accessibility.getFullAXTree", nil, &tree)
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
			c.media(t, "prefers-reduced-motion", preference)
			var name string
			if c.eval(t, animation, &name); name != want {
				t.Errorf("with %s the animation is %q, want %q", preference, name, want)
			}
		}
	})
}

// testKeyboard goes around the page with the Tab key and does all with it.
func testKeyboard(t *testing.T, c *chromium) {
	around := func() (ids []string) {
		t.Helper()
		c.eval(t, `document.querySelector('#url').focus()`, nil)
		for range 2 * len(consoleControls) {
			var stop struct {
				ID      string
				Outline string
			}
			c.eval(t, `(({ id, value, nextElementSibling, parentElement }) => {
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
			c.press(t, "Tab")
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
	c.eval(t, `document.querySelector('#url').focus()`, nil)
	c.press(t, "Enter")
	c.awaitText(t, "#state-name", "Open")
	if got := around(); !slices.Equal(got, open) {
		t.Errorf("with an open socket the Tab key goes to\n%q, want\n%q", got, open)
	}
	c.eval(t, `document.querySelector('#repeat').focus()`, nil)
	c.press(t, " ")
	waitFor(t, c, `document.querySelector('#repeat').checked && document.querySelector('#log [data-direction=received]')`)
	c.press(t, " ")
	c.eval(t, `document.querySelector('#close-reason').focus()`, nil)
	c.press(t, "Enter")
	c.awaitText(t, "#state-name", "Closed")
}

// testLiveRegions makes sure that what changes by itself is announced.
func testLiveRegions(t *testing.T, c *chromium) {
	for selector, role := range map[string]string{
		"#state": "status", "#log-status": "status", "#burst-result": "status",
		"#connect-error": "alert", "#message-error": "alert", "#traffic-error": "alert", "#close-error": "alert",
	} {
		var got string
		c.eval(t, fmt.Sprintf(`document.querySelector(%q).role`, selector), &got)
		if got != role {
			t.Errorf("the role of %s is %q, want %s", selector, got, role)
		}
	}
}

// media sets what the person in front of the browser prefers.
func (c *chromium) media(t *testing.T, feature, value string) {
	t.Helper()
	c.do(t, "Emulation.setEmulatedMedia", params{"features": []params{{"name": feature, "value": value}}}, nil)
}

// poorContrast is a script that finds text with less contrast to what is behind it
// than WCAG asks for (1.4.3), and borders of fields with less (1.4.11).
const poorContrast = `(() => {
	const parse = (color) => {
		const [r, g, b, a = 1] = color.match(/[\d.]+/g).map(Number);
		return { r, g, b, a };
	};
	const over = (top, under) => Object.fromEntries(['r', 'g', 'b'].map((k) => [k, top[k] * top.a + under[k] * (1 - top.a)]));
	const behind = (element) => {
		if (!element) return { r: 255, g: 255, b: 255 };
		const color = parse(getComputedStyle(element).backgroundColor);
		return color.a === 1 ? color : over(color, behind(element.parentElement));
	};
	const luminance = (color) => ['r', 'g', 'b'].map((k) => color[k] / 255)
		.map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
		.reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
	const contrast = (a, b) => {
		const [x, y] = [luminance(a), luminance(b)].sort((m, n) => n - m);
		return (x + 0.05) / (y + 0.05);
	};
	const found = [];
	let checked = 0;
	const check = (element, what, color, back, least) => {
		checked++;
		const ratio = contrast(over(parse(color), back), back);
		if (ratio < least) {
			found.push(element.tagName + '#' + element.id + '.' + element.className + ' ' + what + ' ' + ratio.toFixed(2));
		}
	};
	for (const element of document.querySelectorAll('body *')) {
		if (!element.checkVisibility({ visibilityProperty: true })) continue;
		const style = getComputedStyle(element);
		const field = element.matches('input:not([type=radio]), textarea, select');
		const texts = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
		if (texts || field && element.type !== 'checkbox') check(element, 'text', style.color, behind(element), 4.5);
		if (element.placeholder) check(element, 'placeholder', getComputedStyle(element, '::placeholder').color, behind(element), 4.5);
		if (field) check(element, 'border', style.borderTopColor, behind(element.parentElement), 3);
		if (element.matches('.direction')) check(element, 'arrow', getComputedStyle(element, '::before').color, behind(element), 4.5);
	}
	return { found, checked };
})()`

func TestConsoleContrast(t *testing.T) {
	c := newConsoleTab(t, 1280, 900)
	s := startForOthers(t, consoleBrowserSite)
	c.open(t, "https://"+s.secure+"/ws")
	check := func(state string) {
		t.Helper()
		for _, scheme := range []string{"light", "dark"} {
			c.media(t, "prefers-color-scheme", scheme)
			var result struct {
				Found   []string
				Checked int
			}
			c.eval(t, poorContrast, &result)
			if result.Checked < 40 {
				t.Errorf("%s, %s: only %d texts and borders were found", state, scheme, result.Checked)
			}
			for _, poor := range result.Found {
				t.Errorf("%s, %s: poor contrast: %s", state, scheme, poor)
			}
		}
	}
	check("ready")
	c.fill(t, "#url", "ftp://x")
	c.press(t, "Enter")
	c.awaitText(t, "#connect-error", "ftp")
	c.fill(t, "#close-code", "1")
	check("error")
	c.fill(t, "#url", "/ws")
	connect(t, c)
	c.click(t, "#send")
	waitFor(t, c, `document.querySelector('#log [data-direction=received]')`)
	c.click(t, "#close")
	c.awaitText(t, "#close-error", "not with 1")
	c.click(t, "#log [data-direction=received]")
	check("open")
	c.click(t, "#log [data-direction=sent]")
	check("sent selected")
	c.click(t, "#log [data-direction=event]")
	check("event selected")
	c.fill(t, "#close-code", "")
	c.press(t, "Enter")
	c.awaitText(t, "#state-name", "Closed")
	check("closed")
	c.eval(t, `document.querySelector('#state').dataset.state = 'closing'`, nil)
	check("closing")
}

// capture makes a picture of the window.
func (c *chromium) capture(t *testing.T) []byte {
	t.Helper()
	var picture struct{ Data []byte }
	c.do(t, "Page.captureScreenshot", params{"format": "png"}, &picture)
	return picture.Data
}

// TestConsoleScreenshots makes pictures for those who change the page: with
// -artifacts they stay. With -update one becomes that of the README.
func TestConsoleScreenshots(t *testing.T) {
	c := newConsoleTab(t, 1280, 800)
	s := startForOthers(t, consoleBrowserSite)
	c.open(t, "https://"+s.secure+"/ws")
	save := func(name string) {
		t.Helper()
		var overflow float64
		c.eval(t, `document.documentElement.scrollWidth - innerWidth`, &overflow)
		if overflow > 0 {
			t.Errorf("%s: the page is wider than the window, by %v", name, overflow)
		}
		logRows(t, c) // when all has been drawn
		if err := os.WriteFile(filepath.Join(t.ArtifactDir(), name+".png"), c.capture(t), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	save("ready")
	c.fill(t, "#protocols", "chat")
	connect(t, c)
	converse(t, c)
	for _, scheme := range []string{"light", "dark"} {
		c.media(t, "prefers-color-scheme", scheme)
		save(scheme)
	}
	if *update {
		if err := os.WriteFile("console/screenshot.png", c.capture(t), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.do(t, "Emulation.setTouchEmulationEnabled", params{"enabled": true}, nil)
	for _, width := range []int{768, 390, 320} {
		c.do(t, "Emulation.setDeviceMetricsOverride", params{
			"width": width, "height": 844, "deviceScaleFactor": 2, "mobile": true,
		}, nil)
		save(fmt.Sprintf("width %d top", width))
		c.eval(t, `document.querySelector('.latency').scrollIntoView()`, nil)
		save(fmt.Sprintf("width %d bottom", width))
	}
}

// converse makes some traffic to look at.
func converse(t *testing.T, c *chromium) {
	t.Helper()
	c.fill(t, "#interval", "40")
	c.click(t, "#repeat")
	waitFor(t, c, `parseFloat(document.querySelector('#echoes').textContent) > 300`)
	c.click(t, "#repeat")
	c.fill(t, "#burst-count", "20")
	c.click(t, "#burst")
	for _, text := range []string{`{"type":"join","room":"lobby","user":"ada"}`, "Příliš žluťoučký kůň 🐎", "ping 1"} {
		c.fill(t, "#text", text)
		c.press(t, "Enter")
	}
	c.click(t, "input[value=hex]")
	c.fill(t, "#hex", "82 05 ca fe ba be 00 01 02 03 68 65 6c 6c 6f 2c 20 73 6f 63 6b 65 74")
	c.press(t, "Enter")
	waitFor(t, c, `[...document.querySelectorAll('#log .direction')].at(-1).textContent === 'received'`)
	c.eval(t, `document.querySelector('#log').focus()`, nil)
	c.press(t, "End")
	c.awaitText(t, "#detail-title", "received binary")
	c.eval(t, `document.activeElement.blur()`, nil)
}
