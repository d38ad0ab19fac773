// Package console is the page with which people try an echo endpoint in a browser.
package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The parts of the page, without its screenshot, which only the README shows.
//
//go:embed *.html *.css *.js
var parts embed.FS

var (
	// In the order in which they override each other.
	styles = []string{"base.css", "controls.css", "layout.css", "log.css", "media.css"}

	// Each module comes after those that it imports.
	scripts = []string{
		"dom.js", "bytes.js", "message.js", "socket.js", "controls.js", "effect.js", "echoes.js", "rate.js", "latency.js", "plot.js",
		"log.js", "grid.js", "export.js", "communication.js", "composer.js", "traffic.js", "page.js",
	}
)

// A page is what Answer serves.
type page struct {
	html   []byte
	header http.Header
}

// plain is the page, and controlled the one for endpoints with test controls.
var (
	plain      = sync.OnceValue(func() *page { return assemble("<body>") })
	controlled = sync.OnceValue(func() *page { return assemble("<body data-test-controls>") })
)

// assemble returns the page with the given tag of its body. A matcher may route only one URL
// to the handler, so the page has to include its styles and scripts; its content security
// policy allows them by their hashes.
func assemble(body string) *page {
	style := concatenate(styles...)
	script := moduleSyntax.ReplaceAllString(concatenate(scripts...), "")
	html := strings.NewReplacer(
		"<body>", body,
		"<style></style>", "<style>"+style+"</style>",
		`<script type="module"></script>`, `<script type="module">`+script+"</script>",
	).Replace(concatenate("page.html"))
	sum := sha256.Sum256([]byte(html))
	return &page{
		html: []byte(html),
		header: http.Header{
			"Content-Type": {"text/html; charset=utf-8"},
			"Content-Security-Policy": {strings.Join([]string{
				"default-src 'none'",
				"script-src " + cspHash(script),
				"style-src " + cspHash(style),
				"img-src data:", // the icon
				"connect-src ws: wss:",
				"base-uri 'none'",
				"form-action 'none'",
				"frame-ancestors 'none'",
				"require-trusted-types-for 'script'",
				"trusted-types 'none'",
			}, "; ")},
			"X-Content-Type-Options": {"nosniff"},
			"Referrer-Policy":        {"no-referrer"},
			// Browsers give precise clocks only to pages that are isolated from other
			// sites, and round trips are short.
			"Cross-Origin-Opener-Policy":   {"same-origin"},
			"Cross-Origin-Embedder-Policy": {"require-corp"},
			"Cross-Origin-Resource-Policy": {"same-origin"},
			"Cache-Control":                {"no-cache"},
			"Etag":                         {`"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`},
		},
	}
}

// concatenate returns the contents of parts of the page, concatenated.
func concatenate(names ...string) string {
	var all strings.Builder
	for _, name := range names {
		content, err := parts.ReadFile(name)
		if err != nil {
			panic(err) // the file isn't embedded
		}
		all.Write(content)
	}
	return all.String()
}

// moduleSyntax matches imports and exports, which the page doesn't need: it has all modules
// in one script.
var moduleSyntax = regexp.MustCompile(`(?m)^import .*\n|^export `)

// cspHash returns the source expression of a content security policy that allows exactly
// this inline content.
func cspHash(content string) string {
	sum := sha256.Sum256([]byte(content))
	return fmt.Sprintf("'sha256-%s'", base64.StdEncoding.EncodeToString(sum[:]))
}

// Answer answers a browser with the page, a range of it, or status 304. It reports
// whether it did. With testControls set, the page has a form for them.
func Answer(w http.ResponseWriter, r *http.Request, testControls bool) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	// Other requests for the same URL get the response of the next handler.
	w.Header().Add("Vary", "Accept")
	if !wantsHTML(r.Header["Accept"]) {
		return false
	}
	p := plain()
	if testControls {
		p = controlled()
	}
	for name, values := range p.header {
		w.Header()[name] = slices.Clone(values) // other handlers may append to them
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(p.html))
	return true
}

// wantsHTML reports whether Accept fields name HTML, as those of browsers do. Most other
// clients accept anything, or send no Accept field (RFC 9110 §12.5.1).
func wantsHTML(accept []string) bool {
	for _, value := range accept {
		for element := range strings.SplitSeq(value, ",") {
			if acceptsHTML(element) {
				return true
			}
		}
	}
	return false
}

// acceptsHTML reports whether an element of an Accept field is HTML with a weight above
// zero.
func acceptsHTML(element string) bool {
	mediaRange, parameters, _ := strings.Cut(element, ";")
	if !strings.EqualFold(strings.Trim(mediaRange, " \t"), "text/html") {
		return false
	}
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(strings.Trim(parameter, " \t"), "=")
		if strings.EqualFold(name, "q") {
			weight, err := strconv.ParseFloat(value, 64)
			return err == nil && weight > 0 && weight <= 1
		}
	}
	return true
}
