//go:build !race

package executable

var flags = []string{"-ldflags=-s -w"} // without symbols, which take long to link
