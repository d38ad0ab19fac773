//go:build race

package http2_test

// What is built with the race detector is in the build cache already.
var buildArgs = []string{"build", "-race", "-ldflags=-s -w"}
