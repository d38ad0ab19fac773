package console_test

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/console"
	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// browserAccept is what browsers send when they open a page.
const browserAccept = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"

const consoleSite = "websocket /ws {\nconsole\n}\nrespond next"

// expectConsole makes sure that an answer is the page.
func expectConsole(t *testing.T, res *http.Response, body string) {
	t.Helper()
	page := console.Page()
	if res.StatusCode != http.StatusOK {
		t.Errorf("status is %d, want 200", res.StatusCode)
	}
	if res.Request.Method == http.MethodHead {
		if body != "" {
			t.Errorf("an answer to HEAD has a body: %.60q", body)
		}
	} else if body != page.HTML {
		t.Errorf("not the page: %.60q", body)
	}
	expectConsoleHeader(t, res)
	for name, want := range map[string]string{
		"Content-Type":   "text/html; charset=utf-8",
		"Content-Length": strconv.Itoa(len(page.HTML)),
	} {
		if got := res.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// expectConsoleHeader makes sure of the fields that a 304 has, too.
func expectConsoleHeader(t *testing.T, res *http.Response) {
	t.Helper()
	for name, want := range map[string]string{
		"Cache-Control":                "no-cache",
		"Vary":                         "Accept",
		"X-Content-Type-Options":       "nosniff",
		"Referrer-Policy":              "no-referrer",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cross-Origin-Embedder-Policy": "require-corp",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Content-Security-Policy":      console.Page().Header.Get("Content-Security-Policy"),
		"ETag":                         console.Page().Header.Get("ETag"),
		"Last-Modified":                "",
	} {
		if got := strings.Join(res.Header.Values(name), " and "); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestConsole(t *testing.T) { //nolint:tparallel // other tests run meanwhile
	t.Parallel()
	s := wstest.StartBeside(t, "", consoleSite)
	for _, protocol := range wstest.Protocols {
		t.Run(protocol, func(t *testing.T) {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				res, body := s.Fetch(t, protocol, method, "/ws?room=1", "Accept", browserAccept)
				expectConsole(t, res, body)
			}
			for _, header := range [][]string{
				{},
				{"Accept", "*/*"},
				{"Accept", "application/json"},
				{"Accept", "text/html;q=0, */*"},
			} {
				res, body := s.Fetch(t, protocol, http.MethodGet, "/ws", header...)
				if res.StatusCode != http.StatusOK || body != "next" || res.Header.Get("Vary") != "Accept" {
					t.Errorf("%q: got %d %.60q with Vary %q, want the next handler's answer with Accept",
						header, res.StatusCode, body, res.Header.Get("Vary"))
				}
			}
			for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodOptions, http.MethodDelete} {
				if _, body := s.Fetch(t, protocol, method, "/ws", "Accept", "text/html"); body != "next" {
					t.Errorf("%s: got %.60q, want the next handler's answer", method, body)
				}
			}
			if _, body := s.Fetch(t, protocol, http.MethodGet, "/elsewhere", "Accept", "text/html"); body != "next" {
				t.Errorf("elsewhere: got %.60q, want the next handler's answer", body)
			}
			p := s.Dial(t, protocol, "/ws", "Accept", browserAccept)
			p.Echo(ws.OpText, "hello")
			p.CloseNormally()
		})
	}
}

func TestConsoleRevalidation(t *testing.T) { //nolint:tparallel // other tests run meanwhile
	t.Parallel()
	s := wstest.StartBeside(t, "", consoleSite)
	etag := console.Page().Header.Get("ETag")
	if !regexp.MustCompile(`^"[\w-]{22}"$`).MatchString(etag) {
		t.Errorf("the ETag is %s, want a strong one", etag)
	}
	for _, protocol := range wstest.Protocols {
		t.Run(protocol, func(t *testing.T) {
			for _, c := range []struct {
				condition string
				status    int
			}{
				{etag, http.StatusNotModified},
				{`"other", ` + etag, http.StatusNotModified},
				{"W/" + etag, http.StatusNotModified}, // as a compressing proxy makes it
				{"*", http.StatusNotModified},
				{`"other"`, http.StatusOK},
			} {
				for _, method := range []string{http.MethodGet, http.MethodHead} {
					res, body := s.Fetch(t, protocol, method, "/ws", "Accept", "text/html", "If-None-Match", c.condition)
					if res.StatusCode != c.status {
						t.Errorf("%s: status is %d, want %d", c.condition, res.StatusCode, c.status)
					}
					expectConsoleHeader(t, res)
					if c.status == http.StatusNotModified && body != "" {
						t.Errorf("a 304 has a body: %.60q", body)
					}
				}
			}
			// It is no condition for the next handler.
			if res, body := s.Fetch(t, protocol, http.MethodGet, "/ws", "If-None-Match", etag); body != "next" {
				t.Errorf("got %d %.60q, want the next handler's answer", res.StatusCode, body)
			}
		})
	}
}

func TestConsoleOff(t *testing.T) {
	t.Parallel()
	s := wstest.StartBeside(t, "", "websocket\nrespond next")
	res, body := s.Fetch(t, "http1", http.MethodGet, "/", "Accept", "text/html")
	if body != "next" || res.Header.Get("Vary") != "" {
		t.Errorf("got %.60q with Vary %q, want the next handler's answer with none", body, res.Header.Get("Vary"))
	}
}

// Whatever stands around the handler may wrap the answer and add to it.
func TestConsoleAmongOthers(t *testing.T) { //nolint:tparallel // other tests run meanwhile
	t.Parallel()
	const handler = "websocket {\nconsole\n}\n"
	for _, c := range []struct{ name, site, field, want string }{
		{"log", "log\n" + handler, "", ""},
		{"handle", "handle {\n" + handler + "}", "", ""},
		{"route", "route {\n" + handler + "}", "", ""},
		{"templates", "route {\ntemplates\n" + handler + "}", "Etag", ""},
		{"header", "header X-Site yes\n" + handler, "X-Site", "yes"},
		{"header deferred", "header >X-Site yes\n" + handler, "X-Site", "yes"},
		{"header removed", "header -Etag\n" + handler, "Etag", ""},
		// A policy for the site in general would keep the page from working.
		{"policy", "header Content-Security-Policy \"default-src 'self'\"\n" + handler, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := wstest.StartBeside(t, "", c.site)
			for _, protocol := range wstest.Protocols {
				res, body := s.Fetch(t, protocol, http.MethodGet, "/", "Accept", "text/html")
				if c.field != "" && res.Header.Get(c.field) != c.want {
					t.Errorf("%s is %q, want %q", c.field, res.Header.Get(c.field), c.want)
				}
				if c.field == "Etag" {
					res.Header.Set("Etag", console.Page().Header.Get("Etag")) // taken out, as told
				}
				expectConsole(t, res, body)
			}
		})
	}
}

func TestConsoleEncoded(t *testing.T) { //nolint:tparallel // other tests run meanwhile
	t.Parallel()
	s := wstest.StartBeside(t, "", "route {\nencode gzip\nwebsocket {\nconsole\n}\n}")
	for _, protocol := range wstest.Protocols {
		t.Run(protocol, func(t *testing.T) {
			header := []string{"Accept", "text/html", "Accept-Encoding", "gzip"}
			res, body := s.Fetch(t, protocol, http.MethodGet, "/", header...)
			if res.Header.Get("Content-Encoding") != "gzip" {
				t.Fatalf("Content-Encoding is %q, want gzip", res.Header.Get("Content-Encoding"))
			}
			vary := res.Header.Values("Vary")
			if !slices.Contains(vary, "Accept") || !slices.Contains(vary, "Accept-Encoding") {
				t.Errorf("Vary is %q, want Accept and Accept-Encoding", vary)
			}
			r, err := gzip.NewReader(strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if inflated, err := io.ReadAll(r); err != nil || string(inflated) != console.Page().HTML {
				t.Errorf("not the page: %.60q, %v", inflated, err)
			}
			res, _ = s.Fetch(t, protocol, http.MethodGet, "/", append(header, "If-None-Match", res.Header.Get("ETag"))...)
			if res.StatusCode != http.StatusNotModified {
				t.Errorf("status for the same ETag is %d, want 304", res.StatusCode)
			}
		})
	}
}

func TestWantsHTML(t *testing.T) {
	for _, c := range []struct {
		accept []string
		want   bool
	}{
		{[]string{browserAccept}, true},
		{[]string{"text/html"}, true},
		{[]string{"Text/HTML"}, true},
		{[]string{"application/json, text/html"}, true},
		{[]string{"application/json", "text/html"}, true}, // in two fields
		{[]string{"text/html;q=0.001"}, true},
		{[]string{"text/html ; charset=utf-8 ; Q=1.0"}, true},
		{[]string{" ,, text/html"}, true},

		{nil, false},
		{[]string{""}, false},
		{[]string{"*/*"}, false},
		{[]string{"text/*"}, false},
		{[]string{"application/xhtml+xml"}, false},
		{[]string{"text/html5"}, false},
		{[]string{"x-text/html"}, false},
		{[]string{"text/plain;x=text/html"}, false},
		{[]string{"text/html;q=0"}, false},
		{[]string{"text/html;q=0.000, */*"}, false},
		{[]string{"text/html; level=1; q=0"}, false},
		{[]string{"text/html;q=2"}, false},
		{[]string{"text/html;q=-1"}, false},
		{[]string{"text/html;q=NaN"}, false},
		{[]string{"text/html;q="}, false},
		{[]string{"text/html;q=high"}, false},
	} {
		if got := console.WantsHTML(c.accept); got != c.want {
			t.Errorf("%q: got %v, want %v", c.accept, got, c.want)
		}
	}
}

// The policy allows what stands in the page, and there is nothing in the page that
// would need it to allow more.
func TestConsolePolicy(t *testing.T) {
	t.Parallel()
	page := console.Page()
	html, policy := page.HTML, page.Header.Get("Content-Security-Policy")
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
		for _, found := range regexp.MustCompile(pattern).FindAllString(page.HTML, -1) {
			t.Errorf("%s: %s", what, found)
		}
	}
}
