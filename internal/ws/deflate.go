package ws

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// DeflateExtension is the name of the compression extension (RFC 7692 §7).
const DeflateExtension = "permessage-deflate"

// A Deflate is what a client and a server agree on about compression (RFC 7692 §7.1).
type Deflate struct {
	// ServerTakeover and ClientTakeover are set if the server's or the client's messages
	// may refer to earlier ones.
	ServerTakeover, ClientTakeover bool
	// ServerWindowBits and ClientWindowBits limit how far back the messages of the server
	// or the client refer: to 2 to the power of these, in bytes. From 8 to 15; 0 is 15.
	ServerWindowBits, ClientWindowBits int
}

// maxWindowBits is the largest window, which is meant without a parameter.
const maxWindowBits = 15

// AcceptDeflate accepts the first offer of permessage-deflate that is valid in the header h
// of a handshake; nil if there is none. With takeover set, both sides keep their context
// between messages, unless the client asks for something else.
func AcceptDeflate(h http.Header, takeover bool) *Deflate {
	extensions, _ := ParseExtensions(h["Sec-Websocket-Extensions"])
	for _, e := range extensions {
		if e.Name != DeflateExtension {
			continue
		}
		if d, ok := acceptOffer(e.params, takeover); ok {
			return d
		}
	}
	return nil
}

// acceptOffer returns what comes of an offer, if it is valid (RFC 7692 §7.1).
func acceptOffer(params []extensionParam, takeover bool) (d *Deflate, ok bool) {
	d = &Deflate{ServerTakeover: takeover, ClientTakeover: takeover}
	seen := make(map[string]bool, len(params))
	for _, p := range params {
		valid := !seen[p.name]
		seen[p.name] = true
		switch p.name {
		case "server_no_context_takeover":
			valid = valid && !p.hasValue
			d.ServerTakeover = false
		case "client_no_context_takeover":
			valid = valid && !p.hasValue
			d.ClientTakeover = false
		case "server_max_window_bits":
			valid = valid && validWindowBits(p.value)
			d.ServerWindowBits, _ = strconv.Atoi(p.value)
		case "client_max_window_bits":
			valid = valid && (!p.hasValue || validWindowBits(p.value))
			d.ClientWindowBits, _ = strconv.Atoi(p.value)
		default:
			valid = false
		}
		if !valid {
			return nil, false
		}
	}
	return d, true
}

// validWindowBits reports whether s is a number from 8 to 15 (RFC 7692 §7.1.2).
func validWindowBits(s string) bool {
	bits, err := strconv.Atoi(s)
	return err == nil && bits >= 8 && bits <= 15 && strconv.Itoa(bits) == s
}

// String returns the element of Sec-WebSocket-Extensions that tells the client.
func (d *Deflate) String() string {
	s := DeflateExtension
	if !d.ServerTakeover {
		s += "; server_no_context_takeover"
	}
	if !d.ClientTakeover {
		s += "; client_no_context_takeover"
	}
	if d.ServerWindowBits > 0 {
		s += "; server_max_window_bits=" + strconv.Itoa(d.ServerWindowBits)
	}
	if d.ClientWindowBits > 0 {
		s += "; client_max_window_bits=" + strconv.Itoa(d.ClientWindowBits)
	}
	return s
}

// ServerBits returns the size of the server's window, as a power of 2.
func (d *Deflate) ServerBits() int { return orMaxBits(d.ServerWindowBits) }

// History returns how many bytes of earlier messages the two sides may refer to at most.
func (d *Deflate) History() int {
	size := 0
	if d.ServerTakeover {
		size = 1 << d.ServerBits()
	}
	if d.ClientTakeover {
		size = max(size, 1<<orMaxBits(d.ClientWindowBits))
	}
	return size
}

func orMaxBits(bits int) int {
	if bits == 0 {
		return maxWindowBits
	}
	return bits
}

// WithoutDeflate removes permessage-deflate from the extensions that a client offers in
// the header h. All other elements keep their spelling, even if they are invalid.
func WithoutDeflate(h http.Header) {
	const field = "Sec-Websocket-Extensions"
	kept := ListElements(h[field])
	offered := len(kept)
	kept = slices.DeleteFunc(kept, func(element string) bool {
		name, _, _ := strings.Cut(element, ";")
		return strings.EqualFold(strings.Trim(name, " \t"), DeflateExtension)
	})
	switch len(kept) {
	case offered:
	case 0:
		delete(h, field)
	default:
		h[field] = []string{strings.Join(kept, ", ")}
	}
}
