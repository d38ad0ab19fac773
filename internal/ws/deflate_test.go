package ws

import (
	"net/http"
	"slices"
	"testing"
)

// withoutDeflateTests are offers and what compression off leaves of them.
var withoutDeflateTests = []struct{ offer, want []string }{
	{nil, nil},
	{[]string{"permessage-deflate"}, nil},
	{[]string{"permessage-deflate; client_max_window_bits", "permessage-deflate"}, nil},
	{[]string{"Permessage-DEFLATE ; x"}, nil},
	{[]string{", permessage-deflate,"}, nil},
	// Several extensions are one field, in their order and spelling.
	{[]string{"a, permessage-deflate, b;x=1"}, []string{"a, b;x=1"}},
	{[]string{"a;  x = \"1\"", "permessage-deflate", "B"}, []string{"a;  x = \"1\", B"}},
	// Without permessage-deflate nothing changes, ...
	{[]string{"a,b", "", "c"}, []string{"a,b", "", "c"}},
	{[]string{"permessage-deflate2"}, []string{"permessage-deflate2"}},
	{[]string{"permessage"}, []string{"permessage"}},
	{[]string{"x; permessage-deflate"}, []string{"x; permessage-deflate"}},
	{[]string{`x; a="1, permessage-deflate"`}, []string{`x; a="1, permessage-deflate"`}},
	// ... and what is no extension is the application's to judge.
	{[]string{"=, permessage-deflate; ;, \"open"}, []string{"=, \"open"}},
	{[]string{"permessage-deflate=1"}, []string{"permessage-deflate=1"}},
}

func TestWithoutDeflate(t *testing.T) {
	for _, test := range withoutDeflateTests {
		h := http.Header{}
		for _, value := range test.offer {
			h.Add("Sec-WebSocket-Extensions", value)
		}
		WithoutDeflate(h)
		if got := h.Values("Sec-WebSocket-Extensions"); !slices.Equal(got, test.want) {
			t.Errorf("%q: got %q, want %q", test.offer, got, test.want)
		}
	}
}

func TestAcceptDeflate(t *testing.T) {
	for offer, want := range map[string][2]string{ // without and with context takeover
		"":                   {},
		"x-deflate":          {},
		"permessage-deflate": {"permessage-deflate; server_no_context_takeover; client_no_context_takeover", "permessage-deflate"},
		"permessage-deflate; client_no_context_takeover; server_max_window_bits=8; client_max_window_bits=\"9\"": {
			"permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=8; client_max_window_bits=9",
			"permessage-deflate; client_no_context_takeover; server_max_window_bits=8; client_max_window_bits=9",
		},
		"permessage-deflate; x, permessage-deflate; server_no_context_takeover": {
			"permessage-deflate; server_no_context_takeover; client_no_context_takeover",
			"permessage-deflate; server_no_context_takeover",
		},
		"permessage-deflate; client_max_window_bits": {
			"permessage-deflate; server_no_context_takeover; client_no_context_takeover", "permessage-deflate",
		},
		"permessage-deflate; server_max_window_bits":                            {},
		"permessage-deflate; server_max_window_bits=16":                         {},
		"permessage-deflate; server_max_window_bits=9; server_max_window_bits=": {},
		"permessage-deflate; client_max_window_bits=7":                          {},
		"permessage-deflate; client_no_context_takeover=1":                      {},
	} {
		for i, takeover := range []bool{false, true} {
			got := ""
			if d := AcceptDeflate(http.Header{"Sec-Websocket-Extensions": {offer}}, takeover); d != nil {
				got = d.String()
			}
			if got != want[i] {
				t.Errorf("%s, takeover %t: got %q, want %q", offer, takeover, got, want[i])
			}
		}
	}
}
