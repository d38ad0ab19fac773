//go:build race

package caddywebsocket

const raceDetector = true
