package caddywebsocket

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// A firefox is a tab of Firefox.
type firefox struct {
	*remote
	context string
}

func newFirefox(t *testing.T) *firefox {
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
	f := new(firefox)
	f.remote = startBrowser(t, regexp.MustCompile(`^WebDriver BiDi listening on (ws://\S+)`), "/session",
		func(string, json.RawMessage) {},
		path, "--headless", "--no-remote", "--remote-debugging-port=0", "--profile", profile, "about:blank")
	f.do(t, "session.new", params{
		"capabilities": params{"alwaysMatch": params{"acceptInsecureCerts": true}},
	}, nil)
	var created struct{ Context string }
	f.do(t, "browsingContext.create", params{"type": "tab"}, &created)
	f.context = created.Context
	return f
}

func (f *firefox) do(t *testing.T, method string, p params, result any) {
	t.Helper()
	if err := f.call("", method, p, result); err != nil {
		t.Fatal(err)
	}
}

func (f *firefox) open(t *testing.T, url string) {
	t.Helper()
	f.do(t, "browsingContext.navigate", params{"context": f.context, "url": url, "wait": "complete"}, nil)
}

func (f *firefox) eval(t *testing.T, expression string, result any) {
	t.Helper()
	var evaluated struct {
		Type             string
		Result           struct{ Value string }
		ExceptionDetails struct{ Text string }
	}
	// Values have a notation of their own here; as JSON they are one string.
	f.do(t, "script.callFunction", params{
		"functionDeclaration": "async () => JSON.stringify((await (" + expression + ")) ?? null)",
		"awaitPromise":        true,
		"target":              params{"context": f.context},
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
