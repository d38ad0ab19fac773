package caddywebsocket

import (
	"crypto/sha256"
	"encoding/base64"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The policy allows what stands in the page, and there is nothing in the page that
// would need it to allow more.
func TestConsolePolicy(t *testing.T) {
	page := consolePage()
	html, policy := string(page.html), page.header.Get("Content-Security-Policy")
	want := []string{"default-src 'none'"}
	for _, part := range []struct{ directive, element string }{
		{"script-src", `(?s)<script type="module">(.*?)</script>`},
		{"style-src", `(?s)<style>(.*?)</style>`},
	} {
		found := regexp.MustCompile(part.element).FindAllStringSubmatch(html, -1)
		if len(found) != 1 || len(found[0][1]) < 1000 {
			t.Fatalf("the page has %d elements %s, want one, and a long one", len(found), part.element)
		}
		sum := sha256.Sum256([]byte(found[0][1]))
		want = append(want, part.directive+" 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
		html = strings.Replace(html, found[0][0], "", 1)
	}
	want = append(want, "img-src data:", "connect-src ws: wss:", "base-uri 'none'", "form-action 'none'",
		"frame-ancestors 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'")
	if got := strings.Split(policy, "; "); !slices.Equal(got, want) {
		t.Errorf("the policy is\n%q, want\n%q", got, want)
	}
	html = strings.ReplaceAll(html, "http://www.w3.org/2000/svg", "") // the name of a language
	for what, pattern := range map[string]string{
		"style attribute": `\sstyle=`,
		"event attribute": `\son\w+=`,
		"other script":    `<script`,
		"other style":     `<style|rel="?stylesheet`,
		"asset":           `\ssrc=|url\(`,
		"other site":      `(https?:)?//[\w.]+`,
	} {
		for _, found := range regexp.MustCompile(pattern).FindAllString(html, -1) {
			t.Errorf("%s in the page: %s", what, found)
		}
	}
	for what, pattern := range map[string]string{
		"markup from text":      `innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|setHTML`,
		"code from text":        `\beval\(|new Function`,
		"a part left out":       `(?m)^(import|export) `,
		"an asset":              `url\(|@import`,
		"templates would go in": `\{\{`,
	} {
		for _, found := range regexp.MustCompile(pattern).FindAllString(string(page.html), -1) {
			t.Errorf("%s: %s", what, found)
		}
	}
}
