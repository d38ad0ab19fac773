package console_test

import (
	"bytes"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest/browser"
)

var update = flag.Bool("update", false, "rewrite the screenshot of the README")

// TestConsoleScreenshots makes pictures for those who change the page: with
// -artifacts they stay. With -update one becomes that of the README.
func TestConsoleScreenshots(t *testing.T) {
	t.Parallel()
	c := newConsoleTab(t, 1280, 800)
	s := wstest.StartBeside(t, "", consoleBrowserSite)
	c.Open(t, "https://"+s.Secure+"/ws")
	save := func(name string) {
		t.Helper()
		var overflow float64
		c.Eval(t, `document.documentElement.scrollWidth - innerWidth`, &overflow)
		if overflow > 0 {
			t.Errorf("%s: the page is wider than the window, by %v", name, overflow)
		}
		logRows(t, c) // when all has been drawn
		if err := os.WriteFile(filepath.Join(t.ArtifactDir(), name+".png"), c.Capture(t), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	save("ready")
	c.Fill(t, "#protocols", "chat")
	connect(t, c)
	converse(t, c)
	for _, scheme := range []string{"light", "dark"} {
		c.Media(t, "prefers-color-scheme", scheme)
		save(scheme)
		if *update && scheme == "light" {
			if err := os.WriteFile("screenshot.png", shrink(t, c.Capture(t)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.Do(t, "Emulation.setTouchEmulationEnabled", browser.Params{"enabled": true}, nil)
	for _, width := range []int{768, 390, 320} {
		c.Do(t, "Emulation.setDeviceMetricsOverride", browser.Params{
			"width": width, "height": 844, "deviceScaleFactor": 2, "mobile": true,
		}, nil)
		c.Eval(t, `scrollTo(0, 0)`, nil)
		save(fmt.Sprintf("width %d top", width))
		c.Eval(t, `document.querySelector('.latency').scrollIntoView()`, nil)
		save(fmt.Sprintf("width %d bottom", width))
	}
}

// shrink leaves a picture its 256 most frequent colors.
func shrink(t *testing.T, picture []byte) []byte {
	t.Helper()
	decoded, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		t.Fatal(err)
	}
	frequency := make(map[color.Color]int)
	bounds := decoded.Bounds()
	for y := range bounds.Dy() {
		for x := range bounds.Dx() {
			frequency[decoded.At(x, y)]++
		}
	}
	colors := slices.SortedFunc(maps.Keys(frequency), func(a, b color.Color) int { return frequency[b] - frequency[a] })
	paletted := image.NewPaletted(bounds, colors[:min(256, len(colors))])
	draw.Draw(paletted, bounds, decoded, bounds.Min, draw.Src)
	var packed bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&packed, paletted); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

// converse makes some traffic to look at.
func converse(t *testing.T, c *browser.Chromium) {
	t.Helper()
	echoed := func(beginning string) {
		t.Helper()
		browser.WaitFor(t, c, fmt.Sprintf(`(([row]) => row.dataset.direction === 'received' &&
			row.querySelector('.preview').textContent.startsWith(%q))([...document.querySelectorAll('#log .body [role=row]')].slice(-1))`,
			beginning))
	}
	c.Fill(t, "#burst-count", "20")
	c.Click(t, "#burst")
	c.Fill(t, "#interval", "40")
	c.Click(t, "#repeat")
	echoes := []int{60}
	if *update { // and the plot is to be full
		echoes = []int{250, 500, 740}
	}
	for _, n := range echoes {
		browser.WaitFor(t, c, fmt.Sprintf(`parseFloat(document.querySelector('#echoes').textContent) > %d`, n))
	}
	c.Click(t, "#repeat")
	for _, text := range []string{
		`{"type":"join","room":"lobby","user":"ada"}`,
		`{"type":"message","room":"lobby","text":"Hello, everyone!"}`,
		"Příliš žluťoučký kůň",
		strings.Repeat("The quick brown fox jumps over the lazy dog. ", 100),
	} {
		c.Fill(t, "#text", text)
		c.Press(t, "Enter")
		echoed(text[:20])
	}
	c.Click(t, "input[value=hex]")
	c.Fill(t, "#hex", "82 05 ca fe ba be 00 01 02 03 68 65 6c 6c 6f 2c 20 73 6f 63 6b 65 74")
	c.Press(t, "Enter")
	echoed("82 05 ca")
	c.Eval(t, `document.querySelector('#log').focus()`, nil)
	c.Press(t, "End")
	c.AwaitText(t, "#detail-title", "received binary")
	c.Eval(t, `document.activeElement.blur()`, nil)
}
