package examples

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

const unitFile = "systemd/caddy.service"

func TestExampleSystemd(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		wstest.SkipWithout(t, "systemd-analyze in the PATH")
	}
	// It wants the binary to be there.
	unit := filepath.Join(t.TempDir(), "caddy.service")
	writeFile(t, unit, strings.ReplaceAll(wstest.ReadFile(t, unitFile), "/usr/bin/caddy", os.Args[0]))
	output, err := exec.Command(analyze, "verify", "--man=no", unit).CombinedOutput()
	if err != nil || len(output) > 0 {
		t.Errorf("verifying: %v\n%s", err, output)
	}
	// Of 10, up to 5 is "OK" to it, and a unit that hardens nothing has over 9.
	output, err = exec.Command(analyze, "security", "--no-pager", "--offline=true", "--threshold=25", unit).CombinedOutput()
	if err != nil {
		t.Errorf("exposed: %v\n%s", err, output)
	}
}

// The commands of the unit are Caddy's, and it tells systemd when it serves and
// when it stops.
func TestExampleSystemdNotifies(t *testing.T) {
	t.Parallel()
	unit := wstest.ReadFile(t, unitFile)
	dir := t.TempDir()
	caddyfile := filepath.Join(dir, "Caddyfile")
	writeFile(t, caddyfile, "{\n\tadmin off\n}\n\nhttp://127.0.0.1:0 {\n\twebsocket\n}\n")
	path := filepath.Join(wstest.TempDir, "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(path) // for another run
	defer socket.Close()
	start := regexp.MustCompile(`(?m)^ExecStart=/usr/bin/caddy (.+)$`).FindStringSubmatch(unit)
	if start == nil {
		t.Fatal("no ExecStart")
	}
	arguments := strings.Fields(strings.Replace(start[1], "/etc/caddy/Caddyfile", caddyfile, 1))
	p := wstest.NewProcess(t, arguments...)
	p.Cmd.Env = append(p.Cmd.Env, "NOTIFY_SOCKET="+socket.LocalAddr().String())
	for _, m := range regexp.MustCompile(`(?m)^Environment=(.+)$`).FindAllStringSubmatch(unit, -1) {
		p.Cmd.Env = append(p.Cmd.Env, strings.Fields(strings.ReplaceAll(m[1], "/var/lib/caddy", dir))...)
	}
	p.Run(t, func(msg string) bool { return msg == "serving initial configuration" })
	awaitState := func(state string) {
		t.Helper()
		socket.SetReadDeadline(time.Now().Add(wstest.Timeout))
		for said := ""; !strings.Contains(said, state); {
			buf := make([]byte, 1024)
			n, err := socket.Read(buf)
			if err != nil {
				t.Fatalf("waiting for %s: %v\n%s", state, err, p.Stderr)
			}
			said = string(buf[:n])
		}
	}
	awaitState("READY=1")
	// Caddy begins to trap signals on a goroutine that may not have run yet.
	p.Logs.Await(t, "finished cleaning storage units", 1)
	p.Terminate(t)
	awaitState("STOPPING=1")
	p.ExpectExit(t)
}
