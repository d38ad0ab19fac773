package ws

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseExtensions(t *testing.T) {
	for field, want := range map[string]string{
		"":                                    "",
		",,":                                  "",
		"a":                                   "a",
		"a, b":                                "a|b",
		"a;x":                                 "a x",
		"a ; x ; y=1":                         "a x y=1",
		`a; x="1"; y = "\z"`:                  "a x=1 y=z",
		"permessage-deflate; x=15, other;y=2": "permessage-deflate x=15|other y=2",

		"a b":             `error: unexpected "b"`,
		"a;":              `error: no token at ""`,
		"a;=1":            `error: no token at "=1"`,
		"a; x=":           `error: no token at ""`,
		`a; x="`:          "error: unterminated quoted string",
		`a; x="1 2"`:      `error: "1 2" is not a token`,
		`a; x="1" y`:      `error: unexpected "y"`,
		"a, (comment), b": `error: no token at "(comment)"`,
	} {
		extensions, err := ParseExtensions([]string{field})
		var got []string
		for _, e := range extensions {
			s := e.Name
			for _, p := range e.params {
				s += " " + p.name
				if p.hasValue {
					s += "=" + p.value
				}
			}
			got = append(got, s)
		}
		result := strings.Join(got, "|")
		if err != nil {
			result = fmt.Sprint("error: ", err)
		}
		if result != want {
			t.Errorf("%s: got %s, want %s", field, result, want)
		}
	}
}
