// Package executable builds the programs that tests run.
package executable

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Of returns the executable of a program, a package as go run in the given folder takes it.
// It is Go's build cache that keeps the executable: only the first test ever waits until it is
// linked, which takes seconds for one with Caddy in it.
func Of(t testing.TB, dir, program string) string {
	t.Helper()
	for range 2 { // the first go run still runs it from where it is linked
		args := append(append([]string{"run"}, flags...), "-exec", "go version", program)
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		var warnings bytes.Buffer
		cmd.Stderr = &warnings
		output, err := cmd.Output()
		if err != nil {
			t.Fatalf("go %s in %s: %v\n%s", strings.Join(args, " "), dir, err, &warnings)
		}
		if end := strings.LastIndex(string(output), ": go"); end > 0 {
			name := string(output[:end])
			if _, err := os.Stat(name); err == nil {
				return name
			}
		}
	}
	t.Fatalf("the build cache doesn't keep the executable of %s", program)
	return ""
}
