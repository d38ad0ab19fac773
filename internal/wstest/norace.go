//go:build !race

package wstest

// RaceDetector reports whether the race detector is on.
const RaceDetector = false
