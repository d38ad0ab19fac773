package caddywebsocket

import "testing"

func TestMain(m *testing.M) { runTests(m) }
