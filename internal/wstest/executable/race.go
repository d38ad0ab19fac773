//go:build race

package executable

// What is built with the race detector is in the build cache already.
var flags = []string{"-race", "-ldflags=-s -w"}
