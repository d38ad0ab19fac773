// Package controls reads what the client of an echo socket asks for in the query of its URL,
// so that it can see how it copes with a server that is late, silent, odd or gone.
package controls

import "time"

// The bounds of what a client may ask for: an endpoint for tests is often open to everybody.
const (
	MaxDuration = time.Minute
	MaxCount    = 10_000
	MaxSize     = 16 << 20 // of a message, in bytes
	MaxTotal    = 64 << 20 // of all messages that are sent unasked, in bytes
	MaxFrames   = 1 << 20  // of all messages that are sent unasked
	MaxRate     = 1 << 30  // bytes per second
	MaxReason   = 123      // bytes; a control frame has room for no more (RFC 6455 §5.5)

	minPing     = 10 * time.Millisecond
	defaultSize = 64 // of a message that is sent unasked, in bytes
)

// NoCode stands for a Close frame without a payload.
const NoCode = -1

// Controls are what a client asks for.
type Controls struct {
	// Status is that of the answer to the handshake; 0: it is accepted. One from 100 to 199
	// comes before that of the acceptance.
	Status      int
	AcceptDelay time.Duration // how late the handshake is answered
	Subprotocol string        // the answer to the handshake, whatever was offered; empty: as ever

	Hello    bool          // the first message describes the handshake
	Delay    time.Duration // how late each reply is
	Drop     int           // every Drop-th reply is left out; 0: none
	Fragment int           // the payload of a frame of a message, in bytes; 0: as ever
	Rate     int64         // how fast messages are sent, in bytes per second; 0: as fast as possible
	Ping     time.Duration // how often a Ping is sent; 0: as ever

	// Interval is how often a message of Size bytes is sent unasked, Count times; 0 times: never.
	Interval    time.Duration
	Count, Size int

	// Close and Abort end the socket: with a Close frame of that code, which may be NoCode,
	// and reason, or with none. They do so after AfterCount messages or AfterTime.
	Close, Abort bool
	Code         int
	Reason       string
	AfterCount   int // replies, sent or left out, and messages sent unasked
	AfterTime    time.Duration
	NeverReply   bool // to the client's Close frame

	// Given are the parameters as they were written, by name.
	Given map[string]string
}

// Ends reports whether the controls end the socket.
func (c *Controls) Ends() bool { return c.Close || c.Abort }
