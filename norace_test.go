//go:build !race

package caddywebsocket

const raceDetector = false
