package ws

import (
	"slices"
	"testing"
)

func TestListElements(t *testing.T) {
	for _, test := range []struct{ fields, want []string }{
		{nil, nil},
		{[]string{""}, nil},
		{[]string{" \t"}, nil},
		{[]string{",", " , ,\t"}, nil},
		{[]string{"a"}, []string{"a"}},
		{[]string{"a,b"}, []string{"a", "b"}},
		{[]string{"a, b", "c"}, []string{"a", "b", "c"}},
		{[]string{"", "a", ""}, []string{"a"}},
		{[]string{"a,"}, []string{"a"}},
		{[]string{", b"}, []string{"b"}},
		{[]string{"a,, ,\tb ,"}, []string{"a", "b"}},
		{[]string{"a b"}, []string{"a b"}},
		{[]string{`a; x="1,2", b`}, []string{`a; x="1,2"`, "b"}},
		{[]string{`a; x="\",", b`}, []string{`a; x="\","`, "b"}},
		{[]string{`a; x="\\", b`}, []string{`a; x="\\"`, "b"}},
		{[]string{`a; x=\", b`}, []string{`a; x=\", b`}}, // a backslash means nothing outside of quotes
		{[]string{`a; x="1, b`, "c"}, []string{`a; x="1, b,c`}},
		{[]string{`a; x="\`}, []string{`a; x="\`}},
	} {
		if got := ListElements(test.fields); !slices.Equal(got, test.want) {
			t.Errorf("%q: got %q, want %q", test.fields, got, test.want)
		}
	}
}
