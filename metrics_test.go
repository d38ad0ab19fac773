package caddywebsocket

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// No label takes values that clients can make up.
func TestCloseCodeLabels(t *testing.T) {
	labels := make(map[string]bool)
	for code := range 6000 {
		labels[codeLabel(code)] = true
	}
	want := strings.Fields("1000 1001 1002 1003 1005 1006 1007 1008 1009 1010 1011 1012 1013 1014 other")
	if got := slices.Sorted(maps.Keys(labels)); !slices.Equal(got, want) {
		t.Errorf("labels %v, want %v", got, want)
	}
}
