package console_test

import (
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest/browser"
)

func TestConsoleInFirefox(t *testing.T) { //nolint:tparallel // they share a tab
	t.Parallel()
	f := browser.NewFirefox(t)
	for _, page := range []string{"http", "https"} {
		t.Run(page, func(t *testing.T) {
			s := wstest.StartBeside(t, "", consoleBrowserSite)
			url := "http://" + s.Plain + "/ws"
			if page == "https" {
				url = "https://" + s.Secure + "/ws"
			}
			f.Open(t, url)
			press := func(id string) { f.Eval(t, "document.getElementById('"+id+"').click()", nil) }
			browser.WaitFor(t, f, `document.querySelector('#state-name').textContent === 'Ready'`)
			f.Eval(t, `document.querySelector('#protocols').value = 'chat'`, nil)
			press("connect")
			browser.WaitFor(t, f, `document.querySelector('#state-name').textContent === 'Open'`)
			browser.WaitFor(t, f, `document.querySelector('#protocol').textContent === 'chat'`)
			f.Eval(t, `document.querySelector('#text').value = 'hello from Firefox'`, nil)
			press("send")
			browser.WaitFor(t, f, `document.querySelectorAll('#log [data-direction=received]').length === 1`)
			rows := logRows(t, f)
			if last := rows[len(rows)-1]; last.Preview != "hello from Firefox" || !strings.HasSuffix(last.RTT, "s") {
				t.Errorf("the last entry is %+v, want the echo", last)
			}
			f.Eval(t, `document.querySelector('#close-code').value = '4000'`, nil)
			f.Eval(t, `document.querySelector('#close-reason').value = 'enough'`, nil)
			press("close")
			browser.WaitFor(t, f, `document.querySelector('#state-detail').textContent === '4000 · “enough” · clean'`)
		})
	}
}
