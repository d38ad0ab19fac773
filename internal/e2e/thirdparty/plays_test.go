package thirdparty

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	coder "github.com/coder/websocket"
	"github.com/gorilla/websocket"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest/browser"
)

// A play is what a client is put through, and what it has to make of that. After as many messages
// as are wanted it closes with 1000, unless the server has closed.
type play struct {
	Query string   `json:"query"`
	Send  []string `json:"send"`
	Until int      `json:"until"` // after how many messages it closes; 0: never
	want  []string
	or    []string // what lenient clients make of it
}

// failed is what a client reports that has had to fail the connection.
const failed = "fail"

// message is what a client reports of a message.
func message(text string) string { return fmt.Sprintf("message %d %.20s", len(text), text) }

// plays returns what a client that follows RFC 6455 makes of a server that may not.
func plays() []play {
	var all []play
	add := func(p play, want ...string) {
		p.want = want
		if p.Send == nil {
			p.Send = []string{}
		}
		all = append(all, p)
	}
	// §7.4 and IANA's registry: codes that a server may send.
	for _, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		add(play{Query: fmt.Sprintf("close=%d", code)}, fmt.Sprintf("close %d ", code))
	}
	add(play{Query: "close=none"}, "close 1005 ")
	// A reason of the greatest length, and one of several bytes a character.
	add(play{Query: "close=4000&reason=" + strings.Repeat("r", 123)}, "close 4000 "+strings.Repeat("r", 123))
	add(play{Query: "close=4000&reason=%E2%82%AC%F0%9F%90%8E"}, "close 4000 €🐎")
	// Codes that nobody may send. Browsers report most of them, or all, as they are.
	for _, code := range []int{0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		add(play{Query: fmt.Sprintf("close=%d&reason=x", code), or: []string{fmt.Sprintf("close %d x", code)}}, failed)
	}
	// §5.4: messages in fragments, with control frames between them (a character is cut in two).
	text := strings.Repeat("žluťoučký 🐎 ", 10)
	add(play{Query: "fragment=1", Send: []string{text}, Until: 1}, message(text), "close 1000 ")
	add(play{Query: "fragment=3&rate=2KiB&ping=50ms", Send: []string{text, text}, Until: 2}, message(text), message(text), "close 1000 ")
	add(play{Query: "fragment=5&size=65536&interval=0s&count=2", Until: 2}, message(unasked(1, 2, 65536)), message(unasked(2, 2, 65536)), "close 1000 ")
	// §5.2: all forms of a length.
	for _, size := range []int{0, 1, 125, 126, 65535, 65536, 1 << 20} {
		add(play{Query: fmt.Sprintf("interval=0s&count=1&size=%d&fragment=16MiB", size), Until: 1}, message(unasked(1, 1, size)), "close 1000 ")
	}
	// Messages that nobody has asked for, many at once, and before and after replies.
	many := play{Query: "interval=0s&count=300&size=20", Until: 300}
	var want []string
	for i := range 300 {
		want = append(want, message(unasked(i+1, 300, 20)))
	}
	add(many, append(want, "close 1000 ")...)
	// A client may take its time until it sends.
	add(play{Query: "interval=300ms&count=1&size=1&delay=100ms", Send: []string{"a"}, Until: 2, or: []string{message("1"), message("a"), "close 1000 "}},
		message("a"), message("1"), "close 1000 ")
	add(play{Query: "drop=2", Send: []string{"a", "b", "c"}, Until: 2}, message("a"), message("c"), "close 1000 ")
	// Drips, with a timer of the client's own running.
	add(play{Query: "rate=200", Send: []string{strings.Repeat("x", 100)}, Until: 1}, message(strings.Repeat("x", 100)), "close 1000 ")
	// §7.1.5: no Close frame.
	add(play{Query: "abort"}, failed)
	add(play{Query: "abort&after=1", Send: []string{"a"}}, message("a"), failed)
	// coder/websocket may take the end of the connection for that of a compressed message.
	add(play{Query: "abort&after=300ms&rate=10&interval=0s&size=1000", or: []string{"message 0 ", failed}}, failed)
	// §4.1: handshakes that must fail, late ones, and one after another answer.
	add(play{Query: "subprotocol=surprise"}, failed)
	for _, status := range []int{200, 204, 301, 400, 401, 426, 503} {
		add(play{Query: fmt.Sprintf("status=%d", status)}, failed)
	}
	add(play{Query: "accept_delay=300ms&close=1000"}, "close 1000 ")
	// RFC 9110 §15.2: interim answers, which few clients expect here.
	add(play{Query: "status=103&close=1000", or: []string{failed}}, "close 1000 ")
	return all
}

// unasked is a message that the server sends unasked.
func unasked(i, count, size int) string {
	return fmt.Sprintf("%d of %d %s", i, count, strings.Repeat(".", size))[:size]
}

// differs says what a client makes of a play that others don't.
var differs = map[string]map[string][]string{
	"gorilla": { // made before that code was registered
		"/plain?close=1014": {failed}, "/deflate?close=1014": {failed},
	},
}

// Clients of other makers make of the server's oddities what RFC 6455 asks for.
func TestPlays(t *testing.T) {
	t.Parallel()
	s := wstest.StartBeside(t, "", "websocket /plain {\ntest_controls\n}\nwebsocket /deflate {\ntest_controls\ncompression on takeover\n}\nwebsocket /page {\nconsole\n}")
	browsers := func(tab browser.Tab) func(*testing.T, *wstest.Server, string, []play) [][]string {
		return func(t *testing.T, s *wstest.Server, path string, plays []play) [][]string {
			return playBrowser(t, tab, s, path, plays)
		}
	}
	for name, run := range map[string]func(t *testing.T, s *wstest.Server, path string, plays []play) [][]string{
		"coder": eachWith(playCoder), "gorilla": eachWith(playGorilla), "Node.js ws": playNode, "Python websockets": playPython,
		"Chromium": nil, "Firefox": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plays := plays()
			switch name {
			case "Chromium":
				run = browsers(browser.NewChromium(t))
			case "Firefox": // which doesn't say that the handshake has failed
				plays = slices.DeleteFunc(plays, func(p play) bool { return p.Query == "subprotocol=surprise" })
				run = browsers(browser.NewFirefox(t))
			}
			for _, path := range []string{"/plain", "/deflate"} {
				for i, got := range run(t, &s.Server, path, plays) {
					url, want := path+"?"+plays[i].Query, plays[i].want
					if other, ok := differs[name][url]; ok {
						want = other
					}
					if lenient := plays[i].or; !slices.Equal(got, want) && (lenient == nil || !slices.Equal(got, lenient)) {
						t.Errorf("%s: reports %.200q, want %.200q", url, got, want)
					}
				}
			}
		})
	}
}

// eachWith plays all plays at once with a client of this process.
func eachWith(client func(ctx context.Context, url string, p play, report func(string))) func(*testing.T, *wstest.Server, string, []play) [][]string {
	return func(t *testing.T, s *wstest.Server, path string, plays []play) [][]string {
		ctx, reports, done := bounded(t), make([][]string, len(plays)), make(chan struct{})
		for i, p := range plays {
			go func() {
				defer func() { done <- struct{}{} }()
				client(ctx, "ws://"+s.Plain+path+"?"+p.Query, p, func(event string) { reports[i] = append(reports[i], event) })
			}()
		}
		for range plays {
			<-done
		}
		return reports
	}
}

func playCoder(ctx context.Context, url string, p play, report func(string)) {
	conn, _, err := coder.Dial(ctx, url, &coder.DialOptions{CompressionMode: coder.CompressionContextTakeover, CompressionThreshold: 1})
	if err != nil {
		report(failed)
		return
	}
	defer conn.CloseNow()
	conn.SetReadLimit(-1)
	for _, text := range p.Send {
		_ = conn.Write(ctx, coder.MessageText, []byte(text))
	}
	for n := 0; ; {
		if n > 0 && n == p.Until {
			if err = conn.Close(coder.StatusNormalClosure, ""); err == nil {
				report("close 1000 ")
				return
			}
		} else {
			var text []byte
			if _, text, err = conn.Read(ctx); err == nil {
				report(message(string(text)))
				n++
				continue
			}
		}
		if closed, ok := errors.AsType[coder.CloseError](err); ok {
			report(fmt.Sprintf("close %d %s", closed.Code, closed.Reason))
		} else {
			report(failed)
		}
		return
	}
}

func playGorilla(ctx context.Context, url string, p play, report func(string)) {
	dialer := &websocket.Dialer{EnableCompression: true}
	conn, res, err := dialer.DialContext(ctx, url, nil)
	if err != nil || res.Header.Get("Sec-WebSocket-Protocol") != "" { // it leaves that to its user
		report(failed)
		return
	}
	defer conn.Close()
	for _, text := range p.Send {
		_ = conn.WriteMessage(websocket.TextMessage, []byte(text))
	}
	for n := 0; ; n++ {
		if n > 0 && n == p.Until {
			_ = conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""))
		}
		_, text, err := conn.ReadMessage()
		if closed, ok := errors.AsType[*websocket.CloseError](err); ok && closed.Code != websocket.CloseAbnormalClosure {
			report(fmt.Sprintf("close %d %s", closed.Code, closed.Text))
			return
		}
		if err != nil {
			report(failed)
			return
		}
		report(message(string(text)))
	}
}

// playJS is the client of browsers and of Node's ws, which has their API. Browsers open one socket
// to an address at a time, and Chromium waits for seconds before each if many are to be opened.
const playJS = `const play = (url, { query, send, until }) => new Promise((resolve) => {
	const events = [];
	let messages = 0;
	const socket = new WebSocket(url + '?' + query);
	setTimeout(() => resolve([...events, 'no end']), 15000);
	socket.onopen = () => send.forEach((text) => socket.send(text));
	socket.onerror = () => {};
	socket.onmessage = ({ data }) => {
		events.push('message ' + new TextEncoder().encode(data).length + ' ' + [...data.slice(0, 40)].slice(0, 20).join(''));
		if (++messages === until) {
			socket.close(1000);
		}
	};
	socket.onclose = ({ code, reason, wasClean }) => {
		events.push(wasClean ? 'close ' + code + ' ' + reason : 'fail');
		resolve(events);
	};
});
const playAll = async (url, plays) => {
	const reports = [];
	let next = 0;
	await Promise.all(Array.from({ length: 8 }, async () => {
		while (next < plays.length) {
			const i = next++;
			reports[i] = await play(url, plays[i]);
		}
	}));
	return reports;
};
`

// playExpression is a promise of what the client reports.
func playExpression(s *wstest.Server, path string, plays []play) string {
	return fmt.Sprintf("(() => { %s return playAll(%q, %s); })()", playJS, "ws://"+s.Plain+path, wstest.JSON(plays))
}

func playBrowser(t *testing.T, tab browser.Tab, s *wstest.Server, path string, plays []play) (reports [][]string) {
	t.Helper()
	tab.Open(t, "http://"+s.Plain+"/page")
	tab.Eval(t, playExpression(s, path, plays), &reports)
	return reports
}

func playNode(t *testing.T, s *wstest.Server, path string, plays []play) [][]string {
	t.Helper()
	return evalInNode(t, playExpression(s, path, plays))
}

const playPy = `
import asyncio, json, sys
from websockets import connect, ConnectionClosed, InvalidHandshake

async def play(url, p):
    events = []
    try:
        async with connect(url + '?' + p['query'], max_size=None) as ws:
            try:
                for text in p['send']:
                    await ws.send(text)
                while True:
                    text = await ws.recv()
                    events.append('message %d %s' % (len(text.encode()), text[:20]))
                    if len(events) == p['until']:
                        await ws.close(1000)
            except ConnectionClosed as e:
                events.append('close %d %s' % (e.rcvd.code, e.rcvd.reason) if e.rcvd else 'fail')
    except (InvalidHandshake, OSError):
        events.append('fail')
    return events

async def main(url):
    print(json.dumps(await asyncio.gather(*(play(url, p) for p in json.load(sys.stdin)))))

asyncio.run(main(sys.argv[1]))
`

func playPython(t *testing.T, s *wstest.Server, path string, plays []play) [][]string {
	t.Helper()
	cmd := exec.CommandContext(bounded(t), findPython(t), "-c", playPy, "ws://"+s.Plain+path)
	cmd.Stdin = strings.NewReader(string(wstest.JSON(plays)))
	return runJSON(t, cmd)
}

// runJSON runs a program that prints reports.
func runJSON(t *testing.T, cmd *exec.Cmd) (reports [][]string) {
	t.Helper()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(output, &reports)
	}
	if err != nil {
		t.Fatalf("%v\n%s%s", err, output, stderr.String())
	}
	return reports
}
