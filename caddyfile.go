package caddywebsocket

import (
	"math"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/dustin/go-humanize"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("websocket", parseCaddyfile)
	// After authentication, but before directives that wrap the response (encode,
	// templates) or write it (handle, respond).
	httpcaddyfile.RegisterDirectiveOrder("websocket", httpcaddyfile.Before, "encode")
}

func parseCaddyfile(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return handler, handler.parseRecheckRoutes(h)
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	websocket [<matcher>] [echo|passthrough] {
//		keepalive           <interval> [<timeout>] | off
//		upstream_keepalive  <interval> [<timeout>]
//		buffer_size         <size>
//		allowed_origins     <origins...>
//		require_origin
//		subprotocols        <names...>
//		compression         on [takeover] | off
//		max_message_size    <size> [<size_from_upstream>|off]
//		max_connections     <count> [<per_client>]
//		max_connections_per <key> <count>
//		message_rate        <count> <duration> [delay|close]
//		byte_rate           <size> <duration> [delay|close]
//		write_timeout       <duration>
//		max_lifetime        <duration>
//		expires             <value> [<close_code>|none]
//		recheck             <interval> { <directives...> }
//		close_delay         <duration>
//		close_code          <cause> <code>|none
//		log_subprotocol     plain|hash|off
//		console
//		test_controls
//	}
//
// The option close_code may be given once for each cause, and max_connections_per once for
// each key. The defaults are those of the JSON fields.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // consume directive name
	if d.NextArg() {
		h.Mode = d.Val()
		if h.Mode != modeEcho && h.Mode != modePassthrough {
			return d.Errf("unrecognized websocket mode '%s': it must be echo or passthrough", h.Mode)
		}
		if d.NextArg() {
			return d.ArgErr()
		}
	}
	seen := make(map[string]bool)
	for d.NextBlock(0) {
		option := d.Val()
		if seen[option] && option != "close_code" && option != "max_connections_per" {
			return d.Errf("duplicate websocket option '%s'", option)
		}
		seen[option] = true
		if err := h.unmarshalOption(d, option); err != nil {
			return err
		}
		if d.NextArg() {
			return d.ArgErr()
		}
		if d.NextBlock(1) {
			return d.Errf("the websocket option '%s' does not take a block", option)
		}
	}
	return nil
}

// unmarshalOption parses the arguments of one option.
func (h *Handler) unmarshalOption(d *caddyfile.Dispenser, option string) error {
	switch option {
	case "require_origin":
		h.RequireOrigin = true
		return nil
	case "console":
		h.Console = true
		return nil
	case "test_controls":
		h.TestControls = true
		return nil
	case "keepalive":
		return h.unmarshalKeepalive(d)
	case "upstream_keepalive":
		return parseDurations(d, option, &h.UpstreamKeepaliveInterval, &h.UpstreamKeepaliveTimeout)
	case "close_code":
		return h.unmarshalCloseCode(d)
	case "expires":
		return h.unmarshalExpires(d)
	case "recheck":
		return h.unmarshalRecheck(d)
	case "max_connections_per":
		return h.unmarshalConnectionsPer(d)
	case "buffer_size", "allowed_origins", "subprotocols", "compression", "max_message_size",
		"max_connections", "message_rate", "byte_rate", "write_timeout", "max_lifetime", "close_delay", "log_subprotocol":
	default:
		return d.Errf("unrecognized websocket option '%s'", option)
	}
	if !d.NextArg() {
		return d.ArgErr()
	}
	switch option {
	case "buffer_size":
		return parseSize(d, option, &h.BufferSize)
	case "allowed_origins":
		h.AllowedOrigins = append([]string{d.Val()}, d.RemainingArgs()...)
	case "subprotocols":
		h.Subprotocols = append([]string{d.Val()}, d.RemainingArgs()...)
	case "compression":
		return h.unmarshalCompression(d)
	case "max_message_size":
		return h.unmarshalMessageSize(d)
	case "max_connections":
		err := parseCount(d, option, &h.MaxConnections)
		if err == nil && d.NextArg() {
			err = parseCount(d, option, &h.MaxConnectionsPerClient)
		}
		return err
	case "message_rate":
		return h.unmarshalMessageRate(d)
	case "byte_rate":
		return h.unmarshalByteRate(d)
	case "write_timeout":
		return parseDuration(d, option, &h.WriteTimeout)
	case "max_lifetime":
		return parseDuration(d, option, &h.MaxLifetime)
	case "log_subprotocol":
		switch h.LogSubprotocol = d.Val(); h.LogSubprotocol {
		case logPlain, logHash, logOff:
		default:
			return d.Errf("parsing %s '%s': it must be plain, hash or off", option, h.LogSubprotocol)
		}
	case "close_delay":
		return parseDuration(d, option, &h.CloseDelay)
	}
	return nil
}

func (h *Handler) unmarshalKeepalive(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		if d.Val() == "off" {
			h.KeepaliveInterval = -1
			return nil
		}
		d.Prev()
	}
	return parseDurations(d, "keepalive", &h.KeepaliveInterval, &h.KeepaliveTimeout)
}

func (h *Handler) unmarshalCloseCode(d *caddyfile.Dispenser) error {
	var by, value string
	if !d.Args(&by, &value) {
		return d.ArgErr()
	}
	return h.setCloseCode(d, by, value)
}

// unmarshalExpires parses expires. Its code is that of close_code for this cause.
func (h *Handler) unmarshalExpires(d *caddyfile.Dispenser) error {
	if !d.Args(&h.Expires) || len(h.Expires) == 0 {
		return d.ArgErr()
	}
	if d.NextArg() {
		return h.setCloseCode(d, string(byExpired), d.Val())
	}
	return nil
}

// unmarshalRecheck parses the interval of recheck and keeps the block, for which a Helper is
// needed.
func (h *Handler) unmarshalRecheck(d *caddyfile.Dispenser) error {
	segment := d.NewFromNextSegment()
	segment.Next() // consume option name
	if !segment.NextArg() {
		return segment.ArgErr()
	}
	if err := parseDuration(segment, "recheck", &h.RecheckInterval); err != nil {
		return err
	}
	if segment.CountRemainingArgs() > 0 {
		segment.NextArg()
		return segment.ArgErr()
	}
	h.recheckBlock = segment.NewFromNextSegment()
	return nil
}

// parseRecheckRoutes parses the block of recheck.
func (h *Handler) parseRecheckRoutes(helper httpcaddyfile.Helper) error {
	if h.recheckBlock == nil {
		return nil
	}
	handler, err := httpcaddyfile.ParseSegmentAsSubroute(helper.WithDispenser(h.recheckBlock))
	if err != nil {
		return err
	}
	if subroute, ok := handler.(*caddyhttp.Subroute); ok {
		h.RecheckRoutes = subroute.Routes
	}
	if len(h.RecheckRoutes) == 0 {
		return h.recheckBlock.Err("recheck must have a block with at least one directive, such as forward_auth")
	}
	return nil
}

// setCloseCode sets the close code for a cause.
func (h *Handler) setCloseCode(d *caddyfile.Dispenser, by, value string) error {
	if _, ok := h.CloseCode[by]; ok {
		return d.Errf("duplicate websocket option 'close_code %s'", by)
	}
	code := closeNone
	if value != "none" {
		var err error
		if code, err = strconv.Atoi(value); err != nil || code == closeNone {
			return d.Errf("parsing close_code %s '%s': it must be none or a close code that a server may send", by, value)
		}
	}
	if h.CloseCode == nil {
		h.CloseCode = make(map[string]int)
	}
	h.CloseCode[by] = code
	return nil
}

// unmarshalCompression parses compression, of which one argument has been read.
func (h *Handler) unmarshalCompression(d *caddyfile.Dispenser) error {
	if h.Compression = d.Val(); h.Compression != "on" && h.Compression != "off" {
		return d.Errf("parsing compression '%s': it must be on or off", h.Compression)
	}
	if h.Compression == "on" && d.NextArg() {
		if d.Val() != contextTakeover {
			return d.Errf("parsing compression '%s': the second word must be %s", d.Val(), contextTakeover)
		}
		h.ContextTakeover = true
	}
	return nil
}

// contextTakeover is the word of the Caddyfile for it.
const contextTakeover = "takeover"

func (h *Handler) unmarshalConnectionsPer(d *caddyfile.Dispenser) error {
	var key string
	if !d.Args(&key) || !d.NextArg() {
		return d.ArgErr()
	}
	if _, ok := h.MaxConnectionsPer[key]; ok {
		return d.Errf("duplicate websocket option 'max_connections_per %s'", key)
	}
	var count int
	if err := parseCount(d, "max_connections_per", &count); err != nil {
		return err
	}
	if h.MaxConnectionsPer == nil {
		h.MaxConnectionsPer = make(map[string]int)
	}
	h.MaxConnectionsPer[key] = count
	return nil
}

// unmarshalMessageSize parses max_message_size, of which one argument has been read.
func (h *Handler) unmarshalMessageSize(d *caddyfile.Dispenser) error {
	err := parseSize(d, "max_message_size", &h.MaxMessageSize)
	if err != nil || !d.NextArg() {
		return err
	}
	if d.Val() == "off" {
		h.MaxMessageSizeFromUpstream = -1
		return nil
	}
	return parseSize(d, "max_message_size", &h.MaxMessageSizeFromUpstream)
}

// Larger numbers are not adapted to JSON exactly, since the adapter converts them to
// floating-point numbers on the way.
const (
	maxSize     = 1 << 53
	maxDuration = 100 * 365 * 24 * time.Hour
)

// parseSize parses the current argument of an option as a number of bytes above zero.
func parseSize(d *caddyfile.Dispenser, option string, size *int64) error {
	n, err := humanize.ParseBytes(d.Val())
	if err != nil || n == 0 || n > maxSize {
		return d.Errf("parsing %s '%s': it must be a size from 1 byte to 8PiB, such as 512, 4KiB or 1MB", option, d.Val())
	}
	*size = int64(n)
	return nil
}

// parseCount parses the current argument of an option as a number above zero.
func parseCount(d *caddyfile.Dispenser, option string, count *int) error {
	n, err := strconv.ParseUint(d.Val(), 10, 31)
	if err != nil || n == 0 {
		return d.Errf("parsing %s '%s': it must be a whole number from 1 to %d", option, d.Val(), math.MaxInt32)
	}
	*count = int(n)
	return nil
}

// parseDurations parses the arguments of an option: a duration, and possibly another one.
func parseDurations(d *caddyfile.Dispenser, option string, first, second *caddy.Duration) error {
	if !d.NextArg() {
		return d.ArgErr()
	}
	if err := parseDuration(d, option, first); err != nil {
		return err
	}
	if d.NextArg() {
		return parseDuration(d, option, second)
	}
	return nil
}

// parseDuration parses the current argument of an option as a duration above zero.
func parseDuration(d *caddyfile.Dispenser, option string, duration *caddy.Duration) error {
	n, err := caddy.ParseDuration(d.Val())
	if err != nil {
		return d.Errf("parsing %s '%s': %v", option, d.Val(), err)
	}
	if n <= 0 || n > maxDuration {
		return d.Errf("parsing %s '%s': it must be longer than 0 and at most 100 years", option, d.Val())
	}
	*duration = caddy.Duration(n)
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*Handler)(nil)
