package caddywebsocket

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

func testRepeat(t *testing.T, c *chromium, _ *server) {
	c.fill(t, "#interval", "0")
	c.click(t, "#repeat")
	c.awaitText(t, "#traffic-error", "Interval: enter a whole number from 1 to 3600000")
	c.fill(t, "#interval", "5")
	c.click(t, "#clear")
	c.fill(t, "#text", "again")
	c.click(t, "#repeat")
	waitFor(t, c, `document.querySelectorAll('#log [data-direction=received]').length > 6`)
	c.click(t, "#repeat")
	c.fill(t, "#text", "behind the repetition")
	c.press(t, "Enter")
	awaitReceived(t, c, "behind the repetition")
	// What is sent from now on stands in the log alone.
	c.click(t, "#clear")
	for _, text := range []string{"first", "second", "third"} {
		c.fill(t, "#text", text)
		c.press(t, "Enter")
		expectEcho(t, c, "text", strconv.Itoa(len(text))+" B", text)
	}
	sent := 0
	for _, row := range logRows(t, c) {
		if row.Direction == "sent" {
			sent++
		}
	}
	if sent != 3 {
		t.Errorf("%d messages went out after the repetition, want 3", sent)
	}
}

func testBurst(t *testing.T, c *chromium, _ *server) {
	for _, wrong := range []struct{ selector, text, message string }{
		{"#burst-count", "0", "Messages: enter a whole number from 1 to 1000000"},
		{"#burst-count", "1.5", "Messages: enter a whole number from 1 to 1000000"},
		{"#burst-size", "16777217", "Bytes: enter a whole number from 0 to 16777216"},
		{"#burst-size", "", "Bytes: enter a whole number from 0 to 16777216"},
	} {
		c.fill(t, "#burst-count", "700")
		c.fill(t, "#burst-size", "100")
		c.fill(t, wrong.selector, wrong.text)
		c.click(t, "#burst")
		c.awaitText(t, "#traffic-error", wrong.message)
	}
	for _, kind := range []string{"hex", "text"} {
		c.click(t, "input[value="+kind+"]")
		c.fill(t, "#burst-count", "700")
		c.fill(t, "#burst-size", "100")
		c.click(t, "#clear")
		logRows(t, c) // when the count is that of nothing
		c.click(t, "#burst")
		c.awaitText(t, "#count", "1,400")
		c.awaitText(t, "#burst-result", "Sent 700 × 100 B in ")
		rows := logRows(t, c)
		last := rows[len(rows)-1]
		preview := map[string]string{
			"text": "700" + strings.Repeat(".", 97),
			"hex":  "bc 02" + strings.Repeat(" 00", 62),
		}[kind]
		if last.Size != "100 B" || last.Preview != preview {
			t.Errorf("the last message is %+v, want %s", last, preview)
		}
	}
	if got := c.text(t, "#echoes"); got != "700" {
		waitFor(t, c, `document.querySelector('#echoes').textContent === '700'`)
	}
	c.fill(t, "#burst-count", "1000000")
	c.click(t, "#burst")
	c.awaitText(t, "#burst", "Stop")
	c.click(t, "#burst")
	c.awaitText(t, "#burst", "Start")
	if got := c.text(t, "#burst-result"); strings.HasPrefix(got, "Sent 1,000,000") {
		t.Errorf("the burst was stopped, but %s", got)
	}
	c.fill(t, "#text", "behind the burst")
	c.press(t, "Enter")
	awaitReceived(t, c, "behind the burst")
}

func testFigures(t *testing.T, c *chromium, _ *server) {
	c.click(t, "#clear")
	const dots = `(() => {
		const { data } = document.querySelector('#plot').getContext('2d').getImageData(0, 0, 3000, 3000);
		const accent = getComputedStyle(document.querySelector('#connect')).getPropertyValue('--accent');
		const [r, g, b] = accent.match(/\w\w/g).map((digits) => parseInt(digits, 16));
		let dots = 0;
		for (let i = 0; i < data.length; i += 4) {
			dots += data[i] === r && data[i + 1] === g && data[i + 2] === b && data[i + 3] === 255;
		}
		return dots;
	})()`
	waitFor(t, c, dots+` === 0`)
	if got := c.text(t, "#p50") + c.text(t, "#p99") + c.text(t, "#max"); got != "–––" {
		t.Errorf("percentiles of nothing are %s", got)
	}
	c.fill(t, "#text", "0123456789")
	c.fill(t, "#interval", "20")
	c.click(t, "#repeat")
	waitFor(t, c, dots+` > 0`)
	for _, direction := range []string{"sent", "received"} {
		waitFor(t, c, fmt.Sprintf(`Number(document.querySelector('#%s-messages').textContent) > 1`, direction))
		waitFor(t, c, fmt.Sprintf(`/^\d+0 B$/.test(document.querySelector('#%s-bytes').textContent)`, direction))
	}
	c.click(t, "#repeat")
	var figures []float64
	c.eval(t, `['p50', 'p99', 'max'].map((id) => document.getElementById(id).textContent)
		.map((text) => parseFloat(text) * (text.endsWith(' ms') ? 1 : 1000))`, &figures)
	if len(figures) != 3 || figures[0] <= 0 || figures[0] > figures[1] || figures[1] > figures[2] {
		t.Errorf("p50, p99 and the largest are %v, want them in this order", figures)
	}
	waitFor(t, c, `document.querySelector('#sent-messages').textContent === '0'`)
}
