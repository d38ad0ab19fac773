package caddywebsocket

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// roundTrips returns how many round trips have been counted in a mode.
func roundTrips(t *testing.T, mode string) (n uint64) {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics.roundTrips)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range families[0].GetMetric() {
		if m.GetLabel()[0].GetValue() == mode {
			n = m.GetHistogram().GetSampleCount()
		}
	}
	return n
}

// However often a client repeats its Pong, a Ping has one round trip.
func TestRepeatedPong(t *testing.T) {
	const pings = 3
	bubble(t, func(t *testing.T) {
		before := roundTrips(t, modeEcho)
		p := pipe(t, new(Handler))
		for range pings {
			pong := wstest.ClientFrame(ws.FinBit|byte(ws.OpPong), []byte(p.ExpectPing()))
			p.WriteRaw(bytes.Repeat(pong, 200))
		}
		synctest.Wait()
		if n := roundTrips(t, modeEcho) - before; n != pings {
			t.Errorf("echo: %d round trips of %d pings", n, pings)
		}
	})
	onEveryPipe(t, func(t *testing.T, extendedConnect bool) {
		before := roundTrips(t, modePassthrough)
		client, app := tunnelPipe(t, keepaliveHandler(), extendedConnect)
		for i := range pings {
			time.Sleep(30*time.Second + time.Millisecond)
			const size = 2 + ws.PingPayloadLen
			ping := client.bytes()[i*size : (i+1)*size]
			_, _ = client.Write(bytes.Repeat(wstest.ClientFrame(ws.FinBit|byte(ws.OpPong), ping[2:]), 200))
		}
		synctest.Wait()
		if n := roundTrips(t, modePassthrough) - before; n != pings || len(app.bytes()) > 0 {
			t.Errorf("%d round trips of %d pings, and the application got %x", n, pings, app.bytes())
		}
	})
}
