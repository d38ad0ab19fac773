// Package wstest is the kit for tests of sockets: Caddy in the test's process or in
// one of its own, clients and applications that see and send single frames on
// HTTP/1.1, HTTP/2 and HTTP/3, and a notation for what they exchange.
//
// Only one Caddy can run in a process, so tests that start it in their own, for which they
// need package inprocess, don't run side by side; the subtests of one that has started it
// may. That Caddy has whatever handlers the test binary imports.
package wstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Main is what TestMain of a package has to call. It runs the tests or, in a
// process that a test has started, Caddy.
func Main(m *testing.M) {
	if os.Getenv(asCaddy) != "" {
		InProcess.Main()
		os.Exit(0) // a command that has succeeded may return
	}
	var err error
	if TempDir, err = os.MkdirTemp("", "caddy-websocket"); err != nil {
		panic(err)
	}
	// Whatever of the storage Caddy uses goes there, too.
	os.Setenv("XDG_DATA_HOME", TempDir)
	os.Setenv("XDG_CONFIG_HOME", TempDir)
	waitSideBySide()
	code := m.Run()
	for _, f := range atExit.calls {
		f()
	}
	os.RemoveAll(TempDir)
	if code == 0 {
		code = findLeaks()
	}
	os.Exit(code)
}

// findLeaks looks for goroutines that the tests have left, and returns the exit code.
func findLeaks() int {
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	// Caddy cleans its storage once, and the lock for that notices only later that it is gone.
	if err := goleak.Find(goleak.IgnoreAnyFunction("github.com/caddyserver/certmagic.keepLockfileFresh")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// AtOnce is how many parallel tests run at once: more than there are processors, since most of
// them wait. TestMain may set it.
var AtOnce = 32

// waitSideBySide has AtOnce tests run at once unless -parallel is given. Fuzzing doesn't wait.
func waitSideBySide() {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" || f.Name == "test.fuzz" })
	if !given {
		_ = flag.Set("test.parallel", strconv.Itoa(AtOnce))
	}
}

var atExit struct {
	sync.Mutex
	calls []func()
}

// AtExit has f called when the tests have run, for what they share.
func AtExit(f func()) {
	atExit.Lock()
	defer atExit.Unlock()
	atExit.calls = append(atExit.calls, f)
}

// TempDir is removed when the tests have run.
var TempDir string

// Certificate makes a certificate for 127.0.0.1 and localhost, once, and gives
// the names of its files.
var Certificate = sync.OnceValues(func() (cert, key string) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		panic(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		panic(err)
	}
	cert, key = filepath.Join(TempDir, "cert.pem"), filepath.Join(TempDir, "key.pem")
	for name, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: der},
		key:  {Type: "PRIVATE KEY", Bytes: pkcs8},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			panic(err)
		}
	}
	return cert, key
})

// InsecureTLS is a client's TLS config for certificate.
func InsecureTLS(protocols ...string) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", NextProtos: protocols}
}

// JSON encodes what can be encoded.
func JSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

// SkipWithout skips a test that needs what this machine doesn't have. In CI,
// where nothing may be missing, it fails the test.
func SkipWithout(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("not found: %s", what)
	}
	t.Skipf("not found: %s", what)
}

// ReadFile reads a file of the repository.
func ReadFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Timeout is how long a test waits for what must come.
const Timeout = 20 * time.Second
