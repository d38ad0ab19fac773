//go:build !race

package echo

import "testing"

// Under the race detector pools forget at random, so this is not for there.
func TestEchoAllocatesNothing(t *testing.T) {
	const messages = 10_000
	for _, size := range []int{125, 4 << 10, 64 << 10, 200_000} {
		stream := newLoopStream(size, 0)
		allocations := testing.AllocsPerRun(1, func() {
			stream.left = messages
			echoLoop(stream)
		})
		// The session has some, and a collection may empty the pools.
		if allocations > messages/100 {
			t.Errorf("%d messages of %d bytes: %.0f allocations", messages, size, allocations)
		}
	}
}
