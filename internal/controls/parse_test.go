package controls

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	given := func(pairs ...string) map[string]string {
		m := make(map[string]string)
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	for query, want := range map[string]Controls{
		"hello":                       {Hello: true, Size: defaultSize, Given: given("hello", "")},
		"hello=":                      {Hello: true, Size: defaultSize, Given: given("hello", "")},
		"status=100":                  {Status: 100, Size: defaultSize, Given: given("status", "100")},
		"status=599&accept_delay=60s": {Status: 599, AcceptDelay: time.Minute, Size: defaultSize, Given: given("status", "599", "accept_delay", "60s")},
		"delay=1m&drop=10000":         {Delay: time.Minute, Drop: 10_000, Size: defaultSize, Given: given("delay", "1m", "drop", "10000")},
		"fragment=16MiB&rate=1KiB":    {Fragment: 16 << 20, Rate: 1024, Size: defaultSize, Given: given("fragment", "16MiB", "rate", "1KiB")},
		"subprotocol=x.y%2Bz":         {Subprotocol: "x.y+z", Size: defaultSize, Given: given("subprotocol", "x.y+z")},
		"ping=10ms&close_reply=never": {Ping: 10 * time.Millisecond, NeverReply: true, Size: defaultSize, Given: given("ping", "10ms", "close_reply", "never")},
		"close=none&after=3":          {Close: true, Code: NoCode, AfterCount: 3, Size: defaultSize, Given: given("close", "none", "after", "3")},
		"close=65535&reason=a+b%E2%82%AC&after=0.5s": {
			Close: true, Code: 65535, Reason: "a b€", AfterTime: 500 * time.Millisecond, Size: defaultSize,
			Given: given("close", "65535", "reason", "a b€", "after", "0.5s"),
		},
		"close=0&after=0":                  {Close: true, Size: defaultSize, Given: given("close", "0", "after", "0")},
		"abort&after=10000":                {Abort: true, AfterCount: 10_000, Size: defaultSize, Given: given("abort", "", "after", "10000")},
		"interval=0":                       {Count: 10_000, Size: defaultSize, Given: given("interval", "0")},
		"interval=1s&size=1MiB&fragment=2": {Interval: time.Second, Count: 2, Size: 1 << 20, Fragment: 2, Given: given("interval", "1s", "size", "1MiB", "fragment", "2")},
		"interval=1s&size=0":               {Interval: time.Second, Count: 10_000, Given: given("interval", "1s", "size", "0")},
		"interval=1s&size=16MiB":           {Interval: time.Second, Count: 4, Size: 16 << 20, Given: given("interval", "1s", "size", "16MiB")},
		"interval=1s&size=64KiB&count=1":   {Interval: time.Second, Count: 1, Size: 64 << 10, Given: given("interval", "1s", "size", "64KiB", "count", "1")},
		"interval=1s&count=4&size=16 MiB":  {Interval: time.Second, Count: 4, Size: 16 << 20, Given: given("interval", "1s", "size", "16 MiB", "count", "4")},
	} {
		got, err := Parse(query)
		if err != nil || got == nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%s: got %+v, %v, want %+v", query, got, err, want)
		}
	}
	for _, query := range []string{"", "&", "&&"} {
		if got, err := Parse(query); got != nil || err != nil {
			t.Errorf("%q: got %+v, %v, want nothing", query, got, err)
		}
	}
}

func TestParseErrors(t *testing.T) {
	all := slices.Sorted(maps.Keys(parameters))
	for query, want := range map[string]string{
		"foo=1":                   `unknown parameter "foo"`,
		"Delay=1s":                `unknown parameter "Delay"`,
		"=1":                      `unknown parameter ""`,
		"a%0ab":                   `unknown parameter "a\nb"`,
		"delay=1s;x":              `query "delay=1s;x": invalid semicolon separator in query`,
		"delay=%zz":               `query "delay=%zz": invalid URL escape "%zz"`,
		"delay=1s&delay=2s":       `delay is given more than once`,
		"delay":                   `delay "": it must be a duration from 0s to 60s, such as 250ms or 5s`,
		"delay=5":                 `delay "5": it must be a duration from 0s to 60s, such as 250ms or 5s`,
		"delay=-1s":               `delay "-1s": it must be a duration from 0s to 60s, such as 250ms or 5s`,
		"delay=60.001s":           `delay "60.001s": it must be a duration from 0s to 60s, such as 250ms or 5s`,
		"accept_delay=NaNs":       `accept_delay "NaNs": it must be a duration from 0s to 60s, such as 250ms or 5s`,
		"ping=9ms":                `ping "9ms": it must be a duration from 10ms to 60s, such as 250ms or 5s`,
		"interval=2h":             `interval "2h": it must be a duration from 0s to 60s, such as 250ms or 5s`,
		"status=101":              `status "101": it must be a number from 100 to 599, but not 101`,
		"status=99":               `status "99": it must be a number from 100 to 599, but not 101`,
		"status=600":              `status "600": it must be a number from 100 to 599, but not 101`,
		"subprotocol=":            `subprotocol "": it must be a token: letters, digits and !#$%&'*+-.^_` + "`|~",
		"subprotocol=a,b":         `subprotocol "a,b": it must be a token: letters, digits and !#$%&'*+-.^_` + "`|~",
		"subprotocol=a%0d%0aX:b":  `subprotocol "a\r\nX:b": it must be a token: letters, digits and !#$%&'*+-.^_` + "`|~",
		"hello=1":                 `hello "1": it takes no value`,
		"abort=yes":               `abort "yes": it takes no value`,
		"drop=0":                  `drop "0": it must be a whole number from 1 to 10000`,
		"drop=1.5":                `drop "1.5": it must be a whole number from 1 to 10000`,
		"interval=1s&count=10001": `count "10001": it must be a whole number from 1 to 10000`,
		"fragment=0":              `fragment "0": it must be a size from 1 to 16MiB, such as 512 or 4KiB`,
		"fragment=17MiB":          `fragment "17MiB": it must be a size from 1 to 16MiB, such as 512 or 4KiB`,
		"size=-1&interval=1s":     `size "-1": it must be a size from 0 to 16MiB, such as 512 or 4KiB`,
		"rate=0":                  `rate "0": it must be bytes per second from 1 to 1GiB, such as 512 or 4KiB`,
		"rate=2GiB":               `rate "2GiB": it must be bytes per second from 1 to 1GiB, such as 512 or 4KiB`,
		"close":                   `close "": it must be a close code from 0 to 65535, or none`,
		"close=65536":             `close "65536": it must be a close code from 0 to 65535, or none`,
		"close=1&reason=%ff":      `reason "\xff": it must be UTF-8 of at most 123 bytes`,
		"close=1&reason=" + strings.Repeat("x", 124): `reason "` + strings.Repeat("x", 64) + `"…: it must be UTF-8 of at most 123 bytes`,
		"close=none&reason=x":                        `reason "x": a Close frame without a code has no reason`,
		"close=1&abort":                              `abort: it can't be given with close`,
		"abort&after=-1s":                            `after "-1s": it must be a number of messages up to 10000, or a duration up to 60s, such as 3 or 250ms`,
		"abort&after=10001":                          `after "10001": it must be a number of messages up to 10000, or a duration up to 60s, such as 3 or 250ms`,
		"close_reply=late":                           `close_reply "late": it must be never`,
		"reason=x":                                   `reason "x": it needs close`,
		"after=1":                                    `after "1": it needs close or abort`,
		"count=1":                                    `count "1": it needs interval`,
		"size=1":                                     `size "1": it needs interval`,
		"interval=0&count=5&size=16MiB":              `count "5": count times size, which is 16777216 bytes, must be at most 67108864 bytes`,
		"interval=0&size=2MiB&fragment=1":            `fragment "1": a message of size, which is 2097152 bytes, must be at most 1048576 frames`,
		"interval=0&size=1MiB&fragment=1&count=2":    `count "2": so many messages of 1048576 frames each must be at most 1048576 frames`,
		"fragment=99999999999999999999":              `fragment "99999999999999999999": it must be a size from 1 to 16MiB, such as 512 or 4KiB`,
	} {
		want += "; the parameters are " + strings.Join(all, ", ")
		if got, err := Parse(query); err == nil || err.Error() != want {
			t.Errorf("%s:\n got %+v, %v\nwant %s", query, got, err, want)
		}
	}
}

// Whatever a query is, it is either within the bounds or refused in one line.
func FuzzParse(f *testing.F) {
	for name := range parameters {
		f.Add(name + "=1")
		f.Add(name + "=1s&" + name)
	}
	f.Add("interval=0&size=16MiB&count=4&close=1&reason=%C3%A9")
	f.Fuzz(func(t *testing.T, query string) {
		c, err := Parse(query)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\r\n") {
				t.Errorf("the error has several lines: %q", err)
			}
			return
		}
		if c == nil {
			return
		}
		for _, d := range []time.Duration{c.AcceptDelay, c.Delay, c.Ping, c.Interval, c.AfterTime} {
			if d < 0 || d > MaxDuration {
				t.Errorf("%q: duration %s", query, d)
			}
		}
		if c.Count < 0 || c.Count > MaxCount || c.Size < 0 || c.Size > MaxSize || c.Count*c.Size > MaxTotal || len(c.Reason) > MaxReason {
			t.Errorf("%q: out of bounds: %+v", query, c)
		}
	})
}
