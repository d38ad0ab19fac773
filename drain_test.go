package caddywebsocket

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// The ends of sockets are spread over the time that drain is given.
func TestDrainSpreads(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRegistry()
		ends := make(map[time.Duration]bool)
		start := time.Now()
		var peers []*wstest.Peer
		for range 20 {
			h := &Handler{KeepaliveInterval: -1}
			peers = append(peers, pipe(t, h))
		}
		synctest.Wait()
		for _, s := range sessions.list() {
			g.ordered = append(g.ordered, s)
			g.byID[s.id] = s
		}
		g.drain(time.Minute)
		done := make(chan time.Duration)
		for _, peer := range peers {
			go func() {
				peer.ExpectClose(1012, "")
				done <- time.Since(start)
				peer.SendClose(1012, "")
			}()
		}
		for range peers {
			ends[<-done] = true
		}
		if took := time.Since(start); len(ends) < 10 || took < 30*time.Second || took > time.Minute {
			t.Errorf("the sockets ended at %d moments within %v", len(ends), took)
		}
	})
}
