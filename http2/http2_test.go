package http2_test

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest/executable"
)

// Caddy imports the package under test; testdata/plain, a server of Go's, doesn't.
func TestSettingIsAdvertised(t *testing.T) {
	caddy, plain := executable.Of(t, "..", "./cmd/caddy"), executable.Of(t, ".", "./testdata/plain")
	for _, c := range []struct {
		name, program, godebug string
		want                   bool
	}{
		{"with the package", caddy, "", true},
		{"with the package, among other settings", caddy, "madvdontneed=1", true},
		{"with the package, switched off", caddy, "http2xconnect=0", false},
		{"without the package", plain, "", false},
		{"without the package, switched on", plain, "http2xconnect=1", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			address := start(t, c.program, c.godebug)
			if got := advertised(t, address); got != c.want {
				t.Errorf("SETTINGS_ENABLE_CONNECT_PROTOCOL is %t, want %t", got, c.want)
			}
		})
	}
}

// The handler alone leaves the setting of the process as it is.
func TestHandlerDoesNotImport(t *testing.T) {
	list := exec.Command("go", "list", "-deps", ".")
	list.Dir = ".."
	packages, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.FieldsSeq(string(packages)) {
		if name == "github.com/seed-21dbdb71/caddy-websocket/http2" {
			t.Error("the handler imports the package")
		}
	}
}

// start runs a program that serves HTTP/2 without TLS, and gives its address: Caddy with a
// site, or plain, which ignores its arguments.
func start(t *testing.T, program, godebug string) string {
	t.Helper()
	cmd := exec.Command(program, "run", "--adapter", "caddyfile", "--config", "-")
	cmd.Env = append(os.Environ(), "GODEBUG="+godebug, "XDG_DATA_HOME="+t.TempDir(), "XDG_CONFIG_HOME="+t.TempDir())
	cmd.Stdin = bytes.NewBufferString(`{
		admin off
		auto_https off
		servers {
			protocols h1 h2c
		}
	}
	http://:0 {
		bind 127.0.0.1
	}`)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	addresses := make(chan string, 1)
	go func() {
		var log []byte
		block := make([]byte, 4096)
		address := regexp.MustCompile(`"actual_address":"(127\.0\.0\.1:\d+)"`)
		for {
			n, err := stderr.Read(block)
			log = append(log, block[:n]...)
			if m := address.FindSubmatch(log); m != nil && len(addresses) == 0 {
				addresses <- string(m[1])
				log = nil
			}
			if err != nil {
				return
			}
		}
	}()
	select {
	case address := <-addresses:
		return address
	case <-time.After(time.Minute):
		t.Fatal("the server doesn't start")
		return ""
	}
}

// advertised reports whether the server's first SETTINGS frame allows Extended
// CONNECT (RFC 8441 §3).
func advertised(t *testing.T, address string) bool {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	framer := http2.NewFramer(conn, conn)
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	f, err := framer.ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	settings, ok := f.(*http2.SettingsFrame)
	if !ok {
		t.Fatalf("first frame is %v, want SETTINGS", f)
	}
	value, ok := settings.Value(http2.SettingEnableConnectProtocol)
	return ok && value == 1
}
