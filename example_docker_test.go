package caddywebsocket

import (
	"regexp"
	"strings"
	"testing"
)

func TestExampleDocker(t *testing.T) {
	p := startExample(t, "docker", "localhost {", "localhost:0 {")
	p.dial(t, "http2", "/ws").bye()
}

// The image is built of what the tests run with.
func TestExampleDockerVersions(t *testing.T) {
	dockerfile, gomod, ci := readFile(t, "examples/docker/Dockerfile"), readFile(t, "go.mod"), readFile(t, ".ci/xcaddy")
	for _, c := range []struct{ what, source, pattern, want string }{
		{"Caddy", gomod, `caddyserver/caddy/v2 (v\S+)`, "ARG CADDY_VERSION="},
		{"xcaddy", ci, `cmd/xcaddy@(v\S+)`, "ARG XCADDY_VERSION="},
		{"Go", gomod, `(?m)^go (\d+\.\d+)`, "FROM golang:"},
	} {
		m := regexp.MustCompile(c.pattern).FindStringSubmatch(c.source)
		if m == nil {
			t.Fatalf("no version of %s", c.what)
		}
		if !strings.Contains(dockerfile, c.want+m[1]) {
			t.Errorf("the Dockerfile doesn't have %s%s", c.want, m[1])
		}
	}
}
