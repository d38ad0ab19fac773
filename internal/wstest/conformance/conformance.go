// Package conformance holds what RFC 6455 and RFC 7692 ask of a server, as
// exchanges of frames in the notation of package wstest.
package conformance

import "slices"

// An Exchange is what a client sends and what must come back, after which the
// connection ends. Where no Close is written down, both sides close with 1000.
type Exchange struct {
	Rule string // the section, and what of it is tried
	Sent string
	Want string
	// Only is "plain" or "deflate" if the verdict depends on whether compression
	// was negotiated.
	Only string
}

// Exchanges are those of all sections.
var Exchanges = slices.Concat(
	framing, fragmentation, controlFrames, closing, utf8Text, utf8Cut, deflateMessages, deflateBroken,
)
