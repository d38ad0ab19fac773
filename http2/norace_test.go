//go:build !race

package http2_test

var buildArgs = []string{"build", "-ldflags=-s -w"}
