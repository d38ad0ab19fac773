//go:build soak

package passthrough

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// Of 1,000 sockets those of a user who logs out are closed, and no others. It shows how long
// that takes.
func TestSoakRecheck(t *testing.T) {
	const sockets, users = 1000, 4
	a := startAuthService(t)
	p := wstest.StartProcess(t, "", recheckSite(t, a))
	for user := range users {
		a.login(fmt.Sprint("user", user), true)
	}
	var (
		wg     sync.WaitGroup
		mu     sync.Mutex // guards closed
		closed = make(map[string][]time.Time)
	)
	for i := range sockets {
		user := fmt.Sprint("user", i%users)
		path := []string{"/in/echo", "/in/app"}[i/users%2]
		conn, _, err := websocket.DefaultDialer.Dial("ws://"+p.Plain+path, http.Header{"Cookie": {"user=" + user}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		wg.Go(func() {
			_, _, err := conn.ReadMessage()
			mu.Lock()
			defer mu.Unlock()
			if websocket.IsCloseError(err, 1008, 4403) {
				closed[user] = append(closed[user], time.Now())
			}
		})
	}
	time.Sleep(3 * time.Second)
	a.login("user0", false)
	out := time.Now()
	for deadline := time.Now().Add(wstest.Timeout); ; time.Sleep(10 * time.Millisecond) {
		mu.Lock()
		n, others := len(closed["user0"]), len(closed)
		mu.Unlock()
		if n == sockets/users {
			t.Logf("%d sockets of the user are closed after %s", n, time.Since(out).Round(time.Millisecond))
			if others > 1 {
				t.Error("sockets of others are closed")
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of the user's sockets are closed, want %d", n, sockets/users)
		}
	}
	p.Terminate(t)
	p.ExpectExit(t)
	wg.Wait()
}
