package handshake

import "testing"

func TestValidKey(t *testing.T) {
	for key, want := range map[string]bool{
		"dGhlIHNhbXBsZSBub25jZQ==":  true,
		"AAAAAAAAAAAAAAAAAAAAAA==":  true,
		"AAAAAAAAAAAAAAAAAAAAAB==":  true,  // RFC 4648 §3.5 leaves open what the last bits are
		"AAAAAAAAAAAAAAAAAAAAAAA=":  false, // 17 bytes
		"AAAAAAAAAAAAAAAAAAAAAAAA":  false, // 18 bytes
		"AAAAAAAAAAAAAAAAAAAA==":    false, // 14 bytes
		"AAAAAAAAAAAAAAAAAAAAAA=":   false,
		"AAAAAAAAAAAAAAAAAAAAAA":    false,
		"AAAAAAAAAAAAAAAAAAAAAA===": false,
		" AAAAAAAAAAAAAAAAAAAAAA=":  false,
		"AAAAAAAAAAAAAAAAAAAA-_==":  false, // base64 for URLs
		"AAAAAAAAAAAAAAAAAAAAA===":  false,
		"":                          false,
	} {
		if got := validKey(key); got != want {
			t.Errorf("%q: %t, want %t", key, got, want)
		}
	}
}

// The first key and its answer are those of RFC 6455 §1.3.
func TestAcceptKey(t *testing.T) {
	for key, want := range map[string]string{
		"dGhlIHNhbXBsZSBub25jZQ==": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
		"x3JJHMbDL1EzLkh9GBhXDw==": "HSmrc0sMlYUkAGmm5OPpG2HaGWk=",
	} {
		if got := AcceptKey(key); got != want {
			t.Errorf("%q: %q, want %q", key, got, want)
		}
	}
}
