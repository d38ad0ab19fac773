package console_test

import (
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest/browser"
)

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
	t.Parallel()
	c := newConsoleTab(t, 1280, 900)
	s := wstest.StartBeside(t, "", consoleBrowserSite)
	c.Open(t, "https://"+s.Secure+"/ws")
	check := func(state string) {
		t.Helper()
		for _, scheme := range []string{"light", "dark"} {
			c.Media(t, "prefers-color-scheme", scheme)
			var result struct {
				Found   []string
				Checked int
			}
			c.Eval(t, poorContrast, &result)
			if result.Checked < 40 {
				t.Errorf("%s, %s: only %d texts and borders were found", state, scheme, result.Checked)
			}
			for _, poor := range result.Found {
				t.Errorf("%s, %s: poor contrast: %s", state, scheme, poor)
			}
		}
	}
	check("ready")
	c.Fill(t, "#url", "ftp://x")
	c.Press(t, "Enter")
	c.AwaitText(t, "#connect-error", "ftp")
	c.Fill(t, "#close-code", "1")
	check("error")
	c.Fill(t, "#url", "/ws")
	connect(t, c)
	c.Click(t, "#send")
	browser.WaitFor(t, c, `document.querySelector('#log [data-direction=received]')`)
	c.Click(t, "#close")
	c.AwaitText(t, "#close-error", "not with 1")
	c.Click(t, "#log [data-direction=received]")
	check("open")
	c.Click(t, "#log [data-direction=sent]")
	check("sent selected")
	c.Click(t, "#log [data-direction=event]")
	check("event selected")
	c.Fill(t, "#close-code", "")
	c.Press(t, "Enter")
	c.AwaitText(t, "#state-name", "Closed")
	check("closed")
	c.Eval(t, `document.querySelector('#state').dataset.state = 'closing'`, nil)
	check("closing")
}
