package caddywebsocket

import (
	"bytes"
	"net"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

func TestPingWhenSilent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := pipe(t, new(Handler))
		for range 5 {
			p.ExpectPingAt(2 * time.Minute)
			p.Send(ws.OpPong, "")
		}
		time.Sleep(time.Minute)
		p.Echo(ws.OpText, "not silent")
		p.ExpectPingAt(2 * time.Minute)
		p.CloseNormally()
	})
}

func TestNoPingWhenBusy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := pipe(t, new(Handler))
		for range 30 {
			p.ExpectSilence(time.Minute)
			p.Echo(ws.OpText, "busy")
		}
		p.CloseNormally()
	})
}

func TestPingWhenOneDirectionIsSilent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := pipe(t, new(Handler))
		// The server hears something each minute and has nothing to answer.
		for range 10 {
			p.ExpectSilence(time.Minute)
			p.Send(ws.OpPong, "unsolicited")
			p.ExpectPingAt(time.Minute)
		}
		p.CloseNormally()
	})
}

func TestDeadPeerIsCut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &Handler{KeepaliveInterval: caddy.Duration(30 * time.Second), KeepaliveTimeout: caddy.Duration(100 * time.Second)}
		p := pipe(t, h)
		p.ExpectPingAt(30 * time.Second)
		p.ExpectPingAt(30 * time.Second)
		p.ExpectPingAt(30 * time.Second)
		start := time.Now()
		p.ExpectEnd()
		if waited := time.Since(start); waited != 10*time.Second+cutWait {
			t.Errorf("the end came %v after the last ping, want %v", waited, 10*time.Second+cutWait)
		}
	})
}

func TestAnyByteIsLife(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := pipe(t, new(Handler))
		frame := wstest.ClientFrame(ws.FinBit|byte(ws.OpText), []byte("a slow frame"))
		for i := range frame {
			p.WriteRaw(frame[i : i+1])
			if i < len(frame)-1 {
				p.ExpectPing() // for the other direction is silent
				time.Sleep(time.Minute)
			}
		}
		p.Expect(ws.OpText, "a slow frame")
		p.CloseNormally()
	})
}

func TestKeepaliveOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := pipe(t, &Handler{KeepaliveInterval: -1})
		p.ExpectSilence(365 * 24 * time.Hour)
		p.Echo(ws.OpText, "still there")
		p.CloseNormally()
	})
}

// A Ping that can't be written ends the session, long before the timeout.
func TestPingThatFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := &Handler{KeepaliveInterval: caddy.Duration(time.Minute), KeepaliveTimeout: caddy.Duration(time.Hour)}
		open := func() (n int) {
			for _, s := range sessions.list() {
				if s.handler == h {
					n++
				}
			}
			return n
		}
		pipe(t, h)
		time.Sleep(time.Minute + defaultWriteTimeout - time.Second)
		synctest.Wait()
		if open() != 1 {
			t.Fatal("the session has ended, while its ping may still be sent")
		}
		time.Sleep(time.Second + defaultWriteTimeout/8)
		synctest.Wait()
		if open() != 0 {
			t.Error("the session is still open")
		}
	})
}

// A handshake may take longer than the timeout, if the next handler is slow to
// accept. Silence counts from when it does.
func TestSilenceCountsFromTheAccept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := new(Handler)
		provision(t, h)
		s := newSession(h, httptest.NewRequest("GET", "/", nil))
		time.Sleep(time.Hour)
		server, client := net.Pipe()
		p := pipeSession(t, s, server, client)
		p.ExpectPingAt(defaultKeepaliveInterval)
		p.CloseNormally()
	})
}

// roundTrips returns how many round trips have been counted in a mode.
func roundTrips(t *testing.T, mode string) (n uint64) {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics.roundTrips)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if m.GetLabel()[0].GetValue() == mode {
				n += m.GetHistogram().GetSampleCount()
			}
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
