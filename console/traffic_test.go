package console_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest/browser"
)

func testRepeat(t *testing.T, c *browser.Chromium, _ *wstest.Server) {
	c.Fill(t, "#interval", "0")
	c.Click(t, "#repeat")
	c.AwaitText(t, "#traffic-error", "Interval: enter a whole number from 1 to 3600000")
	c.Fill(t, "#interval", "5")
	c.Click(t, "#clear")
	c.Fill(t, "#text", "again")
	c.Click(t, "#repeat")
	browser.WaitFor(t, c, `document.querySelectorAll('#log [data-direction=received]').length > 6`)
	c.Click(t, "#repeat")
	c.Fill(t, "#text", "behind the repetition")
	c.Press(t, "Enter")
	awaitReceived(t, c, "behind the repetition")
	// What is sent from now on stands in the log alone.
	c.Click(t, "#clear")
	for _, text := range []string{"first", "second", "third"} {
		c.Fill(t, "#text", text)
		c.Press(t, "Enter")
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

func testBurst(t *testing.T, c *browser.Chromium, _ *wstest.Server) {
	for _, wrong := range []struct{ selector, text, message string }{
		{"#burst-count", "0", "Messages: enter a whole number from 1 to 1000000"},
		{"#burst-count", "1.5", "Messages: enter a whole number from 1 to 1000000"},
		{"#burst-size", "16777217", "Bytes: enter a whole number from 0 to 16777216"},
		{"#burst-size", "", "Bytes: enter a whole number from 0 to 16777216"},
	} {
		c.Fill(t, "#burst-count", "700")
		c.Fill(t, "#burst-size", "100")
		c.Fill(t, wrong.selector, wrong.text)
		c.Click(t, "#burst")
		c.AwaitText(t, "#traffic-error", wrong.message)
	}
	for _, kind := range []string{"hex", "text"} {
		c.Click(t, "input[value="+kind+"]")
		c.Fill(t, "#burst-count", "700")
		c.Fill(t, "#burst-size", "100")
		c.Click(t, "#clear")
		logRows(t, c) // when the count is that of nothing
		c.Click(t, "#burst")
		c.AwaitText(t, "#count", "1,400")
		c.AwaitText(t, "#burst-result", "Sent 700 × 100 B in ")
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
	if got := c.Text(t, "#echoes"); got != "700" {
		browser.WaitFor(t, c, `document.querySelector('#echoes').textContent === '700'`)
	}
	c.Fill(t, "#burst-count", "1000000")
	c.Click(t, "#burst")
	c.AwaitText(t, "#burst", "Stop")
	c.Click(t, "#burst")
	c.AwaitText(t, "#burst", "Start")
	if got := c.Text(t, "#burst-result"); strings.HasPrefix(got, "Sent 1,000,000") {
		t.Errorf("the burst was stopped, but %s", got)
	}
	c.Fill(t, "#text", "behind the burst")
	c.Press(t, "Enter")
	awaitReceived(t, c, "behind the burst")
}

func testFigures(t *testing.T, c *browser.Chromium, _ *wstest.Server) {
	c.Click(t, "#clear")
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
	browser.WaitFor(t, c, dots+` === 0`)
	if got := c.Text(t, "#p50") + c.Text(t, "#p99") + c.Text(t, "#max"); got != "–––" {
		t.Errorf("percentiles of nothing are %s", got)
	}
	c.Fill(t, "#text", "0123456789")
	c.Fill(t, "#interval", "20")
	c.Click(t, "#repeat")
	browser.WaitFor(t, c, dots+` > 0`)
	for _, direction := range []string{"sent", "received"} {
		browser.WaitFor(t, c, fmt.Sprintf(`Number(document.querySelector('#%s-messages').textContent) > 1`, direction))
		browser.WaitFor(t, c, fmt.Sprintf(`/^\d+0 B$/.test(document.querySelector('#%s-bytes').textContent)`, direction))
	}
	c.Click(t, "#repeat")
	var figures []float64
	c.Eval(t, `['p50', 'p99', 'max'].map((id) => document.getElementById(id).textContent)
		.map((text) => parseFloat(text) * (text.endsWith(' ms') ? 1 : 1000))`, &figures)
	if len(figures) != 3 || figures[0] <= 0 || figures[0] > figures[1] || figures[1] > figures[2] {
		t.Errorf("p50, p99 and the largest are %v, want them in this order", figures)
	}
	browser.WaitFor(t, c, `document.querySelector('#sent-messages').textContent === '0'`)
}
