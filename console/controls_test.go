package console_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest/browser"
)

// consoleBrowserSite has consoles on two endpoints that differ in what they do.
const consoleBrowserSite = `
	log
	websocket /ws {
		console
		compression on
		subprotocols chat v2.chat
	}
	websocket /limited {
		console
		max_message_size 1KiB
	}
`

// newConsoleTab is a tab in a window of the given size.
func newConsoleTab(t *testing.T, width, height int) *browser.Chromium {
	t.Helper()
	c := browser.NewChromium(t)
	c.Do(t, "Emulation.setDeviceMetricsOverride", browser.Params{
		"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false,
	}, nil)
	c.Do(t, "Emulation.setFocusEmulationEnabled", browser.Params{"enabled": true}, nil)
	return c
}

// A logRow is what the Communication Log shows of an entry.
type logRow struct{ Time, Direction, Type, Size, RTT, Preview string }

// logRows are the rows in the document, when all changes have been drawn.
func logRows(t *testing.T, c browser.Tab) []logRow {
	t.Helper()
	var rows []logRow
	c.Eval(t, `(async () => {
		for (let i = 0; i < 4; i++) {
			await new Promise(requestAnimationFrame);
		}
		return [...document.querySelectorAll('#log .body [role=row]')].map((row) => Object.fromEntries(
			[...row.children].map((cell) => [cell.className, cell.textContent])));
	})()`, &rows)
	return rows
}

// awaitReceived waits until the last entry is a received message. What was sent
// before it has come back then, too.
func awaitReceived(t *testing.T, c *browser.Chromium, preview string) {
	t.Helper()
	browser.WaitFor(t, c, fmt.Sprintf(`(([row]) => row?.dataset.direction === 'received' &&
		row.querySelector('.preview').textContent === %q)([...document.querySelectorAll('#log .body [role=row]')].slice(-1))`, preview))
}

// expectEcho waits until the last two entries are a message and its echo.
func expectEcho(t *testing.T, c *browser.Chromium, kind, size, preview string) {
	t.Helper()
	awaitReceived(t, c, preview)
	rows := logRows(t, c)
	sent, received := rows[len(rows)-2], rows[len(rows)-1]
	for _, row := range []struct {
		logRow
		direction string
	}{{sent, "sent"}, {received, "received"}} {
		if row.Direction != row.direction || row.Type != kind || row.Size != size || row.Preview != preview ||
			!regexp.MustCompile(`^\d\d:\d\d:\d\d\.\d{3}$`).MatchString(row.Time) {
			t.Errorf("the log has %+v, want %s %s %s %s", row.logRow, row.direction, kind, size, preview)
		}
	}
	if sent.RTT != "" || !regexp.MustCompile(`^[\d.]+ m?s$`).MatchString(received.RTT) {
		t.Errorf("round-trip times are %q and %q, want one of the echo", sent.RTT, received.RTT)
	}
}

// connect opens the socket of a console.
func connect(t *testing.T, c *browser.Chromium) {
	t.Helper()
	c.Click(t, "#connect")
	browser.WaitFor(t, c, `document.querySelector('#state-name').textContent === 'Open'`)
}

func TestConsoleControls(t *testing.T) {
	t.Parallel()
	for _, v := range []struct {
		name, page, socket string
		address            func(*wstest.Server) string
		proto              string
	}{
		{"http1", "http", "ws", func(s *wstest.Server) string { return s.Plain }, "HTTP/1.1"},
		{"http2", "https", "wss", func(s *wstest.Server) string { return s.Secure }, "HTTP/2.0"},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			c := newConsoleTab(t, 1280, 900)
			s := wstest.StartBeside(t, "", consoleBrowserSite)
			own := "://" + v.address(&s.Server) + "/ws?room=1"
			c.Open(t, v.page+own)
			if got := c.Text(t, "#state"); got != "Ready" {
				t.Errorf("the state is %q, want Ready", got)
			}
			var url string
			if c.Eval(t, `document.querySelector('#url').value`, &url); url != v.socket+own {
				t.Errorf("the URL is %q, want %q", url, v.socket+own)
			}
			for _, control := range []struct {
				name string
				test func(*testing.T, *browser.Chromium, *wstest.Server)
			}{
				{"connect", testConnect},
				{"text", testSendText},
				{"hex", testSendHex},
				{"file", testSendFile},
				{"repeat", testRepeat},
				{"burst", testBurst},
				{"figures", testFigures},
				{"close", testClose},
				{"other URL", testOtherURL},
			} {
				t.Run(control.name, func(t *testing.T) { control.test(t, c, &s.Server) })
			}
			expectOneConnection(t, &s.Server, v.proto)
			c.ExpectNoComplaints(t, "willReadFrequently") // the test looks at what is drawn
		})
	}
}

// expectOneConnection makes sure that page and socket came on the same connection,
// if the protocol can do that.
func expectOneConnection(t *testing.T, s *wstest.Server, proto string) {
	t.Helper()
	ports := make(map[string]any)
	for _, e := range s.Logs.Await(t, "handled request", 4) {
		request := e["request"].(map[string]any)
		if request["uri"] != "/ws?room=1" {
			continue
		}
		if request["proto"] != proto {
			t.Errorf("a request came on %v, want %s", request["proto"], proto)
		}
		ports[request["method"].(string)] = request["remote_port"]
	}
	if proto == "HTTP/2.0" && (ports[http.MethodGet] == nil || ports[http.MethodGet] != ports[http.MethodConnect]) {
		t.Errorf("requests came from the ports %v, want one port for GET and CONNECT", ports)
	}
}

func testConnect(t *testing.T, c *browser.Chromium, _ *wstest.Server) {
	for _, wrong := range []struct{ selector, text, message string }{
		{"#url", "http://[", "not a valid URL"},
		{"#url", "ftp://example.com/", "not “ftp:”"},
		{"#url", "ws://me:secret@example.com/", "user name"},
		{"#protocols", "chat chat", "more than once"},
		{"#protocols", "a/b", "is not a valid subprotocol"},
	} {
		var before string
		c.Eval(t, fmt.Sprintf(`document.querySelector(%q).value`, wrong.selector), &before)
		c.Fill(t, wrong.selector, wrong.text)
		c.Press(t, "Enter")
		c.AwaitText(t, "#connect-error", wrong.message)
		c.Fill(t, wrong.selector, before)
	}
	c.Fill(t, "#protocols", "v2.chat, chat")
	connect(t, c)
	for selector, want := range map[string]string{
		"#protocol":      "chat",
		"#extensions":    "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
		"#connect-error": "",
		"title":          "Open",
	} {
		if got := c.Text(t, selector); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%s is %q, want %q", selector, got, want)
		}
	}
	var focus string
	if c.Eval(t, `document.activeElement.id`, &focus); focus != "text" {
		t.Errorf("the focus is on %q, want the message", focus)
	}
}

func testSendText(t *testing.T, c *browser.Chromium, _ *wstest.Server) {
	c.Fill(t, "#text", "with the button")
	c.Click(t, "#send")
	expectEcho(t, c, "text", "15 B", "with the button")
	c.Fill(t, "#text", "žluťoučký 🐎")
	c.Press(t, "Enter")
	expectEcho(t, c, "text", "18 B", "žluťoučký 🐎")
	c.Press(t, "Enter", 8)
	c.Do(t, "Input.insertText", browser.Params{"text": "second\tline"}, nil)
	c.Press(t, "Enter")
	expectEcho(t, c, "text", "30 B", "žluťoučký 🐎␊second␉line")
	c.Fill(t, "#text", "")
	c.Press(t, "Enter")
	expectEcho(t, c, "text", "0 B", "")
}

func testSendHex(t *testing.T, c *browser.Chromium, _ *wstest.Server) {
	c.Click(t, "input[value=hex]")
	for _, wrong := range []struct{ text, message string }{
		{"de ad b", "one is missing"},
		{"de ag", "“g” is not"},
	} {
		c.Fill(t, "#hex", wrong.text)
		c.Press(t, "Enter")
		c.AwaitText(t, "#message-error", wrong.message)
		c.AwaitText(t, "#message-hint", wrong.message)
	}
	c.Fill(t, "#hex", "DE:AD 0xbe, 00ff")
	c.AwaitText(t, "#message-hint", "5 bytes")
	c.Press(t, "Enter")
	expectEcho(t, c, "binary", "5 B", "de ad be 00 ff")
	if got := c.Text(t, "#message-error"); got != "" {
		t.Errorf("the error is still %q", got)
	}
}

func testSendFile(t *testing.T, c *browser.Chromium, _ *wstest.Server) {
	c.Click(t, "input[value=file]")
	c.Click(t, "#send")
	c.AwaitText(t, "#message-error", "Choose a file")
	path := filepath.Join(t.TempDir(), "message.bin")
	content := append([]byte{0, 1, 254, 255}, make([]byte, 1<<20)...)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	chooseFile(t, c, path)
	c.AwaitText(t, "#message-hint", "message.bin, 1.00 MiB")
	c.Click(t, "#send")
	expectEcho(t, c, "binary", "1.00 MiB", "00 01 fe ff"+strings.Repeat(" 00", 60))
	c.Click(t, "input[value=text]")
}

// chooseFile does what the dialog for files would.
func chooseFile(t *testing.T, c *browser.Chromium, path string) {
	t.Helper()
	var element struct{ Result struct{ ObjectID string } }
	c.Do(t, "Runtime.evaluate", browser.Params{"expression": `document.querySelector('#file')`}, &element)
	c.Do(t, "DOM.setFileInputFiles", browser.Params{"files": []string{path}, "objectId": element.Result.ObjectID}, nil)
}

func testClose(t *testing.T, c *browser.Chromium, _ *wstest.Server) {
	for _, wrong := range []struct{ code, reason, message string }{
		{"1001", "", "A browser can only close with 1000 or 3000–4999, not with 1001."},
		{"2999", "", "not with 2999"},
		{"5000", "", "not with 5000"},
		{"1e3", "", "not with 1e3"},
		{"", "why", "A reason needs a code."},
		{"1000", strings.Repeat("ž", 62), "124 bytes"},
	} {
		c.Fill(t, "#close-code", wrong.code)
		c.Fill(t, "#close-reason", wrong.reason)
		c.Click(t, "#close")
		c.AwaitText(t, "#close-error", wrong.message)
	}
	if got := c.Text(t, "#state-name"); got != "Open" {
		t.Errorf("the state is %q, want Open", got)
	}
	reason := strings.Repeat("ž", 61) + "!"
	for _, v := range []struct{ code, reason, state string }{
		{"3001", reason, "3001 · “" + reason + "” · clean"},
		{"1000", "", "1000 Normal closure · clean"},
		{"", "", "1005 No status received · clean"},
	} {
		c.Fill(t, "#close-code", v.code)
		c.Fill(t, "#close-reason", v.reason)
		c.AwaitText(t, "#reason-size", fmt.Sprintf("%d of 123 bytes", len(v.reason)))
		c.Click(t, "#close")
		c.AwaitText(t, "#state-name", "Closed")
		if got := c.Text(t, "#state-detail"); got != v.state {
			t.Errorf("the state is %q, want %q", got, v.state)
		}
		var focus string
		if c.Eval(t, `document.activeElement.id`, &focus); focus != "connect" {
			t.Errorf("the focus is on %q, want the button that opens the socket again", focus)
		}
		connect(t, c)
	}
	c.Click(t, "#close")
	c.AwaitText(t, "#state-name", "Closed")
}

func testOtherURL(t *testing.T, c *browser.Chromium, s *wstest.Server) {
	c.Fill(t, "#protocols", "")
	c.Fill(t, "#url", "wss://"+s.Secure+"/limited")
	c.Press(t, "Enter")
	c.AwaitText(t, "#state-name", "Open")
	if got := c.Text(t, "#extensions"); got != "none" {
		t.Errorf("the other endpoint has the extensions %q, want none", got)
	}
	c.Fill(t, "#text", strings.Repeat("x", 1025))
	c.Press(t, "Enter")
	c.AwaitText(t, "#state-detail", "1009 Message too big · “message of more than 1024 bytes” · clean")
}
