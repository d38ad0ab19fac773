package caddywebsocket

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// now is a moment for tests of what is relative to one.
var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestParseExpiry(t *testing.T) {
	for value, want := range map[string]string{
		"0":                                      "1970-01-01T00:00:00Z",
		"1767323045":                             "2026-01-02T03:04:05Z",
		" 1767323045 ":                           "2026-01-02T03:04:05Z",
		"1767323045.5":                           "2026-01-02T03:04:05.5Z",
		"1.767323045e+09":                        "2026-01-02T03:04:05Z",
		"-5":                                     "1970-01-01T00:00:00Z",
		"-1e300":                                 "1970-01-01T00:00:00Z",
		"253402300799":                           "9999-12-31T23:59:59Z",
		"2026-01-02T04:04:05+01:00":              "2026-01-02T03:04:05Z",
		"2026-01-02T03:04:05.123456Z":            "2026-01-02T03:04:05.123Z",
		"Fri, 02 Jan 2026 03:04:05 GMT":          "2026-01-02T03:04:05Z",
		"2026-01-02 04:04:05 +0100 CET":          "2026-01-02T03:04:05Z",
		"2026-01-02 05:04:05.5 +0200 +0200":      "2026-01-02T03:04:05.5Z",
		"2026-01-02 03:04:05 +0000 UTC m=+0.042": "2026-01-02T03:04:05Z",
		"15m":                                    "2026-01-02T03:19:05Z",
		"1d":                                     "2026-01-03T03:04:05Z",
		"-1h":                                    "2026-01-02T02:04:05Z",
		"0s":                                     "2026-01-02T03:04:05Z",

		"":                          "",
		"1767323045000":             "", // milliseconds
		"1e300":                     "",
		"inf":                       "",
		"nan":                       "",
		"never":                     "",
		"2026-01-02":                "",
		"2026-01-02 03:04:05":       "",
		"2026-01-02 03:04:05 +0000": "",
		"1767323045, 5":             "",
		"1000000h":                  "",
		"300y":                      "",
		"{http.auth.user.id}":       "",
	} {
		at, ok := parseExpiry(value, now)
		if ok != (want != "") || ok && formatExpiry(at) != want {
			t.Errorf("%q: got %s, %t, want %q", value, formatExpiry(at), ok, want)
		}
	}
}

func FuzzParseExpiry(f *testing.F) {
	for _, value := range []string{"1767323045.5", "-1e300", "2026-01-02T03:04:05Z", "Fri, 02 Jan 2026 03:04:05 GMT", "15m", "106751d"} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		at, ok := parseExpiry(value, now)
		if ok && (at.Year() > 9999 || at.Year() < -1) {
			t.Errorf("%q is the year %d", value, at.Year())
		}
		if again, ok2 := parseExpiry(formatExpiry(at), now); ok && at.Year() >= 0 && (!ok2 || again.Sub(at).Abs() > time.Millisecond) {
			t.Errorf("%q: %s is read as %s", value, formatExpiry(at), again)
		}
	})
}

// A session ends when its login does, however often that time is moved, unless it ends
// earlier.
func TestExpires(t *testing.T) {
	const lifetime = time.Hour
	type move struct{ after, expires time.Duration } // expires 0: never
	for name, c := range map[string]struct {
		moves []move
		want  time.Duration
		by    cause
	}{
		"as it was":            {nil, 10 * time.Minute, byExpired},
		"extended":             {[]move{{5 * time.Minute, 20 * time.Minute}}, 25 * time.Minute, byExpired},
		"shortened":            {[]move{{5 * time.Minute, time.Minute}}, 6 * time.Minute, byExpired},
		"ended":                {[]move{{5 * time.Minute, -time.Minute}}, 5 * time.Minute, byExpired},
		"extended and back":    {[]move{{time.Minute, time.Hour}, {time.Minute, time.Minute}}, 3 * time.Minute, byExpired},
		"longer than it lives": {[]move{{5 * time.Minute, 2 * time.Hour}}, lifetime, byLifetime},
		"lifted":               {[]move{{5 * time.Minute, 0}}, lifetime, byLifetime},
	} {
		t.Run(name, func(t *testing.T) {
			onEveryPipe(t, func(t *testing.T, extendedConnect bool) {
				begun := time.Now()
				client, app := tunnelPipe(t, &Handler{Mode: modePassthrough, KeepaliveInterval: -1, MaxLifetime: caddy.Duration(lifetime)}, extendedConnect)
				s := onlySession(t)
				s.expire(begun.Add(10 * time.Minute))
				for _, m := range c.moves {
					time.Sleep(m.after)
					var at time.Time
					if m.expires != 0 {
						at = time.Now().Add(m.expires)
					}
					if !s.expire(at) {
						t.Fatal("the session is about to end")
					}
				}
				for len(client.bytes()) == 0 {
					time.Sleep(time.Second)
				}
				took := time.Since(begun)
				earliest := c.want
				if c.by == byLifetime {
					earliest -= lifetime / 10
				}
				if got := howEnded(s); got.by != c.by || took < earliest || took > c.want+2*time.Second {
					t.Errorf("ended by %s after %s, want by %s after %s", got.by, took, c.by, c.want)
				}
				synctest.Wait()
				if s.expire(time.Now().Add(time.Hour)) {
					t.Error("the session is extended although it is about to end")
				}
				if c.by == byExpired {
					expired := ws.ClosePayload(1008, "session expired")
					if got, want := client.bytes(), wstest.ServerFrame(ws.FinBit|byte(ws.OpClose), string(expired)); !bytes.Equal(got, want) {
						t.Errorf("the client got %x, want %x", got, want)
					}
					if got, want := app.bytes(), ws.AppendClientControl(nil, ws.OpClose, expired); len(got) != len(want) {
						t.Errorf("the application got %x, want %x but for the mask", got, want)
					}
				}
			})
		})
	}
}
