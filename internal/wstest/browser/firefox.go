package browser

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// A Firefox is a tab of Firefox.
type Firefox struct {
	*remote
	context string
}

// firefox is the Firefox of the test binary, as chromium is the Chromium.
var firefox struct {
	sync.Once
	*remote
}

// NewFirefox opens a tab of Firefox, in a window of its own: tabs in the background are slow.
func NewFirefox(t *testing.T) *Firefox {
	t.Helper()
	path := findBrowser(t, "firefox-esr", "firefox")
	firefox.Do(func() { firefox.remote = startFirefox(t, path) })
	if firefox.remote == nil {
		t.Fatal("Firefox doesn't start")
	}
	f := &Firefox{remote: firefox.remote}
	var created struct{ Context string }
	f.do(t, "browsingContext.create", Params{"type": "window"}, &created)
	f.context = created.Context
	t.Cleanup(func() {
		if err := f.call("", "browsingContext.close", Params{"context": f.context}, nil); err != nil {
			t.Error(err)
		}
	})
	return f
}

func startFirefox(t *testing.T, path string) *remote {
	t.Helper()
	profile := newProfile(t)
	const settings = `
		user_pref("remote.active-protocols", 1);
		user_pref("app.update.disabledForTesting", true);
		user_pref("browser.shell.checkDefaultBrowser", false);
		user_pref("datareporting.policy.dataSubmissionEnabled", false);
		user_pref("network.captive-portal-service.enabled", false);
		user_pref("network.connectivity-service.enabled", false);
		user_pref("network.http.http3.enable", false);
		user_pref("network.websocket.delay-failed-reconnects", false);
	`
	if err := os.WriteFile(filepath.Join(profile, "user.js"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	f := startBrowser(t, wstest.AtExit, regexp.MustCompile(`^WebDriver BiDi listening on (ws://\S+)`), "/session",
		func(string, string, json.RawMessage) {},
		path, "--headless", "--no-remote", "--remote-debugging-port=0", "--profile", profile, "about:blank")
	if err := f.call("", "session.new", Params{
		"capabilities": Params{"alwaysMatch": Params{"acceptInsecureCerts": true}},
	}, nil); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *Firefox) do(t *testing.T, method string, p Params, result any) {
	t.Helper()
	if err := f.call("", method, p, result); err != nil {
		t.Fatal(err)
	}
}

// Open implements [Tab].
func (f *Firefox) Open(t *testing.T, url string) {
	t.Helper()
	f.do(t, "browsingContext.navigate", Params{"context": f.context, "url": url, "wait": "complete"}, nil)
}

// Eval implements [Tab].
func (f *Firefox) Eval(t *testing.T, expression string, result any) {
	t.Helper()
	var evaluated struct {
		Type             string
		Result           struct{ Value string }
		ExceptionDetails struct{ Text string }
	}
	// Values have a notation of their own here; as JSON they are one string.
	f.do(t, "script.callFunction", Params{
		"functionDeclaration": "async () => JSON.stringify((await (" + expression + ")) ?? null)",
		"awaitPromise":        true,
		"target":              Params{"context": f.context},
		"userActivation":      true,
	}, &evaluated)
	if evaluated.Type != "success" {
		t.Fatalf("evaluating %s: %s", expression, evaluated.ExceptionDetails.Text)
	}
	if result == nil {
		return
	}
	if err := json.Unmarshal([]byte(evaluated.Result.Value), result); err != nil {
		t.Fatalf("evaluating %s: %v", expression, err)
	}
}
