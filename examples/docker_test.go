package examples

import (
	"regexp"
	"strings"
	"testing"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

func TestExampleDocker(t *testing.T) {
	t.Parallel()
	p := startExample(t, "docker", "localhost {", "localhost:0 {")
	p.Dial(t, "http2", "/ws").CloseNormally()
}

// The image is built of what the tests run with.
func TestExampleDockerVersions(t *testing.T) {
	dockerfile, gomod, ci := wstest.ReadFile(t, "docker/Dockerfile"), wstest.ReadFile(t, "../go.mod"), wstest.ReadFile(t, "../.ci/xcaddy")
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
