package controls

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"
	"golang.org/x/net/http/httpguts"
)

// parameters have the parser of each parameter's value.
var parameters = map[string]func(c *Controls, value string) error{
	"status":       (*Controls).parseStatus,
	"accept_delay": duration(func(c *Controls) *time.Duration { return &c.AcceptDelay }, 0),
	"subprotocol":  (*Controls).parseSubprotocol,
	"hello":        flag(func(c *Controls) *bool { return &c.Hello }),
	"delay":        duration(func(c *Controls) *time.Duration { return &c.Delay }, 0),
	"drop":         count(func(c *Controls) *int { return &c.Drop }),
	"fragment":     size(func(c *Controls) *int { return &c.Fragment }, 1),
	"rate":         (*Controls).parseRate,
	"ping":         duration(func(c *Controls) *time.Duration { return &c.Ping }, minPing),
	"interval":     duration(func(c *Controls) *time.Duration { return &c.Interval }, 0),
	"count":        count(func(c *Controls) *int { return &c.Count }),
	"size":         size(func(c *Controls) *int { return &c.Size }, 0),
	"close":        (*Controls).parseClose,
	"reason":       (*Controls).parseReason,
	"abort":        flag(func(c *Controls) *bool { return &c.Abort }),
	"after":        (*Controls).parseAfter,
	"close_reply":  (*Controls).parseCloseReply,
}

// needs are the parameters that mean something only beside one of others.
var needs = map[string][]string{
	"reason": {"close"},
	"after":  {"close", "abort"},
	"count":  {"interval"},
	"size":   {"interval"},
}

// Parse reads the query of a URL. It returns nil if that has no parameters. The error is one
// line, for the client: it names the parameter, the value, the rule, and all parameters.
func Parse(query string) (*Controls, error) {
	c, err := parse(query)
	if err != nil {
		return nil, fmt.Errorf("%w; the parameters are %s", err, strings.Join(slices.Sorted(maps.Keys(parameters)), ", "))
	}
	return c, nil
}

func parse(query string) (*Controls, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, fmt.Errorf("query %s: %w", quote(query), err)
	}
	if len(values) == 0 {
		return nil, nil
	}
	c := &Controls{Size: defaultSize, Given: make(map[string]string)}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		parse, known := parameters[name]
		if !known {
			return nil, fmt.Errorf("unknown parameter %s", quote(name))
		}
		value := values[name][0]
		if len(values[name]) > 1 {
			return nil, fmt.Errorf("%s is given more than once", name)
		}
		if err := parse(c, value); err != nil {
			return nil, fmt.Errorf("%s %s: %w", name, quote(value), err)
		}
		c.Given[name] = value
	}
	return c, c.validate()
}

// quote quotes what the client has written, if need be only the beginning.
func quote(s string) string {
	const most = 64
	if len(s) > most {
		return strconv.Quote(s[:most]) + "…"
	}
	return strconv.Quote(s)
}

// validate checks what can't be seen of one parameter, and completes the rest.
func (c *Controls) validate() error {
	for _, name := range slices.Sorted(maps.Keys(needs)) {
		value, given := c.Given[name]
		if !given || slices.ContainsFunc(needs[name], func(other string) bool { _, ok := c.Given[other]; return ok }) {
			continue
		}
		return fmt.Errorf("%s %s: it needs %s", name, quote(value), strings.Join(needs[name], " or "))
	}
	switch {
	case c.Close && c.Abort:
		return errors.New("abort: it can't be given with close")
	case c.Code == NoCode && c.Reason != "":
		return fmt.Errorf("reason %s: a Close frame without a code has no reason", quote(c.Reason))
	}
	if _, given := c.Given["interval"]; !given {
		return nil
	}
	return c.validateUnasked()
}

// validateUnasked checks how much is sent unasked.
func (c *Controls) validateUnasked() error {
	frames := 1 // of each message
	if c.Fragment > 0 {
		frames = max(1, (c.Size+c.Fragment-1)/c.Fragment)
	}
	switch {
	case frames > MaxFrames:
		return fmt.Errorf("fragment %q: a message of size, which is %d bytes, must be at most %d frames", c.Given["fragment"], c.Size, MaxFrames)
	case c.Count == 0:
		c.Count = min(MaxCount, MaxTotal/max(1, c.Size), MaxFrames/frames)
	case c.Count*c.Size > MaxTotal:
		return fmt.Errorf("count %q: count times size, which is %d bytes, must be at most %d bytes", c.Given["count"], c.Size, MaxTotal)
	case c.Count*frames > MaxFrames:
		return fmt.Errorf("count %q: so many messages of %d frames each must be at most %d frames", c.Given["count"], frames, MaxFrames)
	}
	return nil
}

func (c *Controls) parseStatus(value string) error {
	n, err := strconv.Atoi(value)
	if err != nil || n < 100 || n > 599 || n == 101 {
		return errors.New("it must be a number from 100 to 599, but not 101")
	}
	c.Status = n
	return nil
}

func (c *Controls) parseSubprotocol(value string) error {
	if !httpguts.ValidHeaderFieldName(value) { // a token, as a field name is
		return errors.New("it must be a token: letters, digits and !#$%&'*+-.^_`|~")
	}
	c.Subprotocol = value
	return nil
}

func (c *Controls) parseRate(value string) error {
	n, err := humanize.ParseBytes(value)
	if err != nil || n < 1 || n > MaxRate {
		return errors.New("it must be bytes per second from 1 to 1GiB, such as 512 or 4KiB")
	}
	c.Rate = int64(n)
	return nil
}

// parseClose takes codes that RFC 6455 §7.4 forbids, too: clients have to cope with those.
func (c *Controls) parseClose(value string) error {
	c.Close, c.Code = true, NoCode
	if value == "none" {
		return nil
	}
	n, err := strconv.ParseUint(value, 10, 16)
	if err != nil {
		return errors.New("it must be a close code from 0 to 65535, or none")
	}
	c.Code = int(n)
	return nil
}

func (c *Controls) parseReason(value string) error {
	if len(value) > MaxReason || !utf8.ValidString(value) {
		return fmt.Errorf("it must be UTF-8 of at most %d bytes", MaxReason)
	}
	c.Reason = value
	return nil
}

func (c *Controls) parseAfter(value string) error {
	if n, err := strconv.ParseUint(value, 10, 31); err == nil && n <= MaxCount {
		c.AfterCount = int(n)
		return nil
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 || d > MaxDuration {
		return fmt.Errorf("it must be a number of messages up to %d, or a duration up to 60s, such as 3 or 250ms", MaxCount)
	}
	c.AfterTime = d
	return nil
}

func (c *Controls) parseCloseReply(value string) error {
	if value != "never" {
		return errors.New("it must be never")
	}
	c.NeverReply = true
	return nil
}

func flag(field func(*Controls) *bool) func(*Controls, string) error {
	return func(c *Controls, value string) error {
		if value != "" {
			return errors.New("it takes no value")
		}
		*field(c) = true
		return nil
	}
}

func duration(field func(*Controls) *time.Duration, least time.Duration) func(*Controls, string) error {
	return func(c *Controls, value string) error {
		d, err := time.ParseDuration(value)
		if err != nil || d < least || d > MaxDuration {
			return fmt.Errorf("it must be a duration from %s to 60s, such as 250ms or 5s", least)
		}
		*field(c) = d
		return nil
	}
}

func count(field func(*Controls) *int) func(*Controls, string) error {
	return func(c *Controls, value string) error {
		n, err := strconv.ParseUint(value, 10, 31)
		if err != nil || n < 1 || n > MaxCount {
			return fmt.Errorf("it must be a whole number from 1 to %d", MaxCount)
		}
		*field(c) = int(n)
		return nil
	}
}

func size(field func(*Controls) *int, least uint64) func(*Controls, string) error {
	return func(c *Controls, value string) error {
		n, err := humanize.ParseBytes(value)
		if err != nil || n < least || n > MaxSize {
			return fmt.Errorf("it must be a size from %d to 16MiB, such as 512 or 4KiB", least)
		}
		*field(c) = int(n)
		return nil
	}
}
