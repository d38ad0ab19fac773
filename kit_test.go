package caddywebsocket

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

// runTests is what TestMain of a package has to call. It runs the tests or, in a
// process that a test has started, Caddy.
func runTests(m *testing.M) {
	if os.Getenv(asCaddy) != "" {
		caddycmd.Main()
	}
	caddy.RegisterModule(testLog{})
	var err error
	if tempDir, err = os.MkdirTemp("", "caddy-websocket"); err != nil {
		panic(err)
	}
	// Whatever of the storage Caddy uses goes there, too.
	os.Setenv("XDG_DATA_HOME", tempDir)
	os.Setenv("XDG_CONFIG_HOME", tempDir)
	code := m.Run()
	os.RemoveAll(tempDir)
	os.Exit(code)
}

var tempDir string

// certificate makes a certificate for 127.0.0.1 and localhost, once, and gives
// the names of its files.
var certificate = sync.OnceValues(func() (cert, key string) {
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
	cert, key = filepath.Join(tempDir, "cert.pem"), filepath.Join(tempDir, "key.pem")
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

// insecure is a client's TLS config for certificate.
func insecure(protocols ...string) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", NextProtos: protocols}
}

func mustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

// skipWithout skips a test that needs what this machine doesn't have. In CI,
// where nothing may be missing, it fails the test.
func skipWithout(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("not found: %s", what)
	}
	t.Skipf("not found: %s", what)
}

// readFile reads a file of the repository.
func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// patience is how long a test waits for what must come.
const patience = 20 * time.Second
