package caddywebsocket

import "slices"

// An exchange is what a client sends and what must come back, after which the
// connection ends. Where no Close is written down, both sides close with 1000.
type exchange struct {
	rule string // the section, and what of it is tried
	sent string
	want string
	// only is "plain" or "deflate" if the verdict depends on whether compression
	// was negotiated.
	only string
}

// exchanges are those of all sections.
var exchanges = slices.Concat(
	framing, fragmentation, controlFrames, closing, utf8Text, utf8Cut, deflateMessages, deflateBroken,
)
