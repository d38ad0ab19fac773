package console

import "net/http"

// The tests are of another package, because they run Caddy with the handler, which imports
// this one.

var WantsHTML = wantsHTML

// A TestPage is what a page should be served as.
type TestPage struct {
	HTML   string
	Header http.Header
}

// Page returns the page.
func Page() TestPage { return TestPage{string(plain().html), plain().header} }
