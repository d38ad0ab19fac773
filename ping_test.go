package caddywebsocket

import (
	"bytes"
	"testing"
)

// Pings that wait for the end of a frame are one Ping, which is made when it is
// written: its number and its time are those of that moment.
func TestPingsBehindAFrameAreOne(t *testing.T) {
	var wire bytes.Buffer
	made := 0
	var s sender
	s.begin(&wire, new(keepalive), func() []byte {
		made++
		return []byte("8 bytes!")
	}, nil)
	frame := serverFrame(finBit|byte(opText), "in two halves")
	if err := s.pass(frame[:5], true, false); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		s.post(opPing, nil)
	}
	if made != 0 {
		t.Errorf("%d pings were made within a frame", made)
	}
	if err := s.pass(frame[5:], false, false); err != nil {
		t.Fatal(err)
	}
	want := append(frame, serverFrame(finBit|byte(opPing), "8 bytes!")...)
	if made != 1 || !bytes.Equal(wire.Bytes(), want) {
		t.Errorf("%d pings were made, and %q sent, want %q", made, wire.Bytes(), want)
	}
}
