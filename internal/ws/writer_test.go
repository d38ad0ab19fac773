package ws

import (
	"bytes"
	"testing"
)

// Pings that wait for the end of a frame are one Ping, which is made when it is
// written: its number and its time are those of that moment.
func TestPingsBehindAFrameAreOne(t *testing.T) {
	var wire bytes.Buffer
	made := 0
	var s Writer
	s.Begin(&wire, new(Keepalive), func() []byte {
		made++
		return []byte("8 bytes!")
	}, nil)
	frame := plain(FinBit|byte(OpText), "in two halves")
	if err := s.Pass(frame[:5], true, false); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		s.Post(OpPing, nil)
	}
	if made != 0 {
		t.Errorf("%d pings were made within a frame", made)
	}
	if err := s.Pass(frame[5:], false, false); err != nil {
		t.Fatal(err)
	}
	want := append(frame, plain(FinBit|byte(OpPing), "8 bytes!")...)
	if made != 1 || !bytes.Equal(wire.Bytes(), want) {
		t.Errorf("%d pings were made, and %q sent, want %q", made, wire.Bytes(), want)
	}
}
