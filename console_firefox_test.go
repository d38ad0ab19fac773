package caddywebsocket

import (
	"strings"
	"testing"
)

func TestConsoleInFirefox(t *testing.T) {
	f := newFirefox(t)
	for _, page := range []string{"http", "https"} {
		t.Run(page, func(t *testing.T) {
			s := startForOthers(t, consoleBrowserSite)
			url := "http://" + s.plain + "/ws"
			if page == "https" {
				url = "https://" + s.secure + "/ws"
			}
			f.open(t, url)
			press := func(id string) { f.eval(t, "document.getElementById('"+id+"').click()", nil) }
			waitFor(t, f, `document.querySelector('#state-name').textContent === 'Ready'`)
			f.eval(t, `document.querySelector('#protocols').value = 'chat'`, nil)
			press("connect")
			waitFor(t, f, `document.querySelector('#state-name').textContent === 'Open'`)
			waitFor(t, f, `document.querySelector('#protocol').textContent === 'chat'`)
			f.eval(t, `document.querySelector('#text').value = 'hello from Firefox'`, nil)
			press("send")
			waitFor(t, f, `document.querySelectorAll('#log [data-direction=received]').length === 1`)
			rows := logRows(t, f)
			if last := rows[len(rows)-1]; last.Preview != "hello from Firefox" || !strings.HasSuffix(last.RTT, "s") {
				t.Errorf("the last entry is %+v, want the echo", last)
			}
			f.eval(t, `document.querySelector('#close-code').value = '4000'`, nil)
			f.eval(t, `document.querySelector('#close-reason').value = 'enough'`, nil)
			press("close")
			waitFor(t, f, `document.querySelector('#state-detail').textContent === '4000 · “enough” · clean'`)
		})
	}
}
