package limit

import (
	"runtime"
	"testing"
)

func TestNetwork(t *testing.T) {
	for ip, want := range map[string]string{
		"192.0.2.1":                "192.0.2.1",
		"::ffff:192.0.2.1":         "192.0.2.1",
		"::ffff:192.0.2.1%eth0":    "192.0.2.1",
		"::ffff:c000:201":          "192.0.2.1",
		"2001:db8::1":              "2001:db8::/64",
		"2001:db8:0:0:ffff::":      "2001:db8::/64",
		"2001:DB8:0:1::1":          "2001:db8:0:1::/64",
		"2001:db8:1::1":            "2001:db8:1::/64",
		"fe80::1%eth0":             "fe80::/64",
		"fe80::2":                  "fe80::/64",
		"::1":                      "::/64",
		"::192.0.2.1":              "::/64",
		"":                         "",
		"@":                        "@",
		"192.0.2.1:80":             "192.0.2.1:80",
		"2001:db8::1, 2001:db8::2": "2001:db8::1, 2001:db8::2",
	} {
		if got := Network(ip); got != want {
			t.Errorf("%q: got %q, want %q", ip, got, want)
		}
	}
}

// user is the claim of a socket that counts for a user, of whose sockets there may be two.
func user(name string) []Claim {
	return []Claim{{Key: "handler"}, {Key: "user", Value: name, Max: 2}}
}

func TestAcquire(t *testing.T) {
	c := NewConnections()
	take := func(name string, want int) {
		t.Helper()
		exceeded, open := c.Acquire(user(name))
		if refused := exceeded != nil; refused != (want > 0) || open != want || refused && (exceeded.Key != "user" || exceeded.Value != name) {
			t.Errorf("%s: got %v with %d open, want %d", name, exceeded, open, want)
		}
	}
	take("ada", 0)
	take("ada", 0)
	take("ada", 2)
	take("bob", 0)
	c.Release(user("ada"))
	take("ada", 0)
	take("ada", 2)
	for _, name := range []string{"ada", "ada", "bob"} {
		c.Release(user(name))
	}
	if len(c.counts.open) != 0 {
		t.Errorf("%v is left", c.counts.open)
	}
}

// A socket that is one too many for its last claim isn't counted for the others.
func TestAcquireAllOrNothing(t *testing.T) {
	c := NewConnections()
	for range 10 {
		c.Acquire(user("ada"))
	}
	if got := c.counts.open[id{key: "handler"}]; got != 2 {
		t.Errorf("%d sockets are counted, want 2", got)
	}
}

func TestCountTogether(t *testing.T) {
	var places Places
	before, after := NewConnections(), NewConnections()
	before.CountTogether(places.At("here"))
	before.Acquire(user("ada"))
	after.Acquire(user("ada")) // before the place is known
	after.CountTogether(places.At("here"))
	if exceeded, _ := after.Acquire(user("ada")); exceeded == nil {
		t.Error("a third socket is accepted after a reload")
	}
	elsewhere := NewConnections()
	elsewhere.CountTogether(places.At("there"))
	if exceeded, _ := elsewhere.Acquire(user("ada")); exceeded != nil {
		t.Error("a socket of another place is refused")
	}
	before.Release(user("ada"))
	if exceeded, _ := after.Acquire(user("ada")); exceeded != nil {
		t.Error("a socket is refused although one from before the reload has closed")
	}
}

// The counts of a place are kept for no longer than somebody counts with them.
func TestPlacesForget(t *testing.T) {
	var places Places
	countAt(&places, "a place")
	runtime.GC()
	runtime.GC()
	places.At("another place")
	if _, ok := places.counts["a place"]; ok {
		t.Error("the counts of a place that nobody counts at are kept")
	}
}

// countAt counts a socket at a place for as long as the function runs.
func countAt(places *Places, name string) {
	c := NewConnections()
	c.CountTogether(places.At(name))
	c.Acquire(user("ada"))
	c.Release(user("ada"))
}
