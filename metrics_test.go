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

// The labels of a handler's ends are few.
func TestEndingsAreBounded(t *testing.T) {
	for _, mode := range []string{"echo", "passthrough"} {
		h := &Handler{Mode: mode, CloseCode: map[string]int{"lifetime": 4000, "admin": closeNone}}
		series := make(map[[2]string]bool)
		for _, end := range h.endings() {
			series[[2]string{codeLabel(end.code), string(end.by)}] = true
		}
		if len(series) > 60 {
			t.Errorf("%s: %d series", mode, len(series))
		}
		for _, want := range [][2]string{{"other", "lifetime"}, {"1006", "admin"}, {"1012", "shutdown"}, {"1006", "write_timeout"}, {"other", "client"}, {"1005", "client"}} {
			if !series[want] {
				t.Errorf("%s: %v is missing", mode, want)
			}
		}
	}
}
