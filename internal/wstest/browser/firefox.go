package browser

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// A Firefox is a tab of Firefox.
type Firefox struct {
	*remote
	context string
}

// NewFirefox opens a tab of Firefox.
func NewFirefox(t *testing.T) *Firefox {
	t.Helper()
	path := findBrowser(t, "firefox-esr", "firefox")
	profile := newProfile(t)
	const settings = `
		user_pref("remote.active-protocols", 1);
		user_pref("app.update.disabledForTesting", true);
		user_pref("browser.shell.checkDefaultBrowser", false);
		user_pref("datareporting.policy.dataSubmissionEnabled", false);
		user_pref("network.captive-portal-service.enabled", false);
		user_pref("network.connectivity-service.enabled", false);
		user_pref("network.http.http3.enable", false);
	`
	if err := os.WriteFile(filepath.Join(profile, "user.js"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	f := new(Firefox)
	f.remote = startBrowser(t, t.Cleanup, regexp.MustCompile(`^WebDriver BiDi listening on (ws://\S+)`), "/session",
		func(string, string, json.RawMessage) {},
		path, "--headless", "--no-remote", "--remote-debugging-port=0", "--profile", profile, "about:blank")
	f.do(t, "session.new", Params{
		"capabilities": Params{"alwaysMatch": Params{"acceptInsecureCerts": true}},
	}, nil)
	var created struct{ Context string }
	f.do(t, "browsingContext.create", Params{"type": "tab"}, &created)
	f.context = created.Context
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
