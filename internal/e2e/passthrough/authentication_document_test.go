package passthrough

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/gorilla/websocket"

	"github.com/seed-21dbdb71/caddy-websocket/internal/ws"
	"github.com/seed-21dbdb71/caddy-websocket/internal/wstest"
)

// documentSites returns the directives of each site that the document shows, by the heading
// above it.
func documentSites(t *testing.T) map[string]string {
	t.Helper()
	sites := make(map[string]string)
	heading := regexp.MustCompile(`(?m)^##+ (.*)$`)
	block := regexp.MustCompile("(?s)```caddyfile\napp.example.com {\n(.*?)\n}\n```")
	text := wstest.ReadFile(t, "../../../docs/authentication.md")
	for _, at := range block.FindAllStringSubmatchIndex(text, -1) {
		above := heading.FindAllStringSubmatch(text[:at[0]], -1)
		sites[above[len(above)-1][1]] = text[at[2]:at[3]]
	}
	return sites
}

// Each Caddyfile of the document does what the document says.
func TestAuthenticationDocument(t *testing.T) {
	hash := "$2a$04$9O37fXP12rbx.txU2F745.FMetWzUfUcZ6tLrnl/2FH99A7n0C/Xy"
	t.Setenv("ALICE_PASSWORD_HASH", hash)
	tests := map[string]func(t *testing.T, site string){
		"Origins":                         documentOrigins,
		"Passwords":                       documentPasswords,
		"An authentication service":       documentService,
		"Client certificates":             documentCertificates,
		"JSON Web Tokens":                 documentTokens,
		"It is revoked":                   documentRevoked,
		"Tokens in URLs and subprotocols": documentLogs,
	}
	for heading, site := range documentSites(t) {
		if tests[heading] == nil {
			t.Errorf("the Caddyfile below %q isn't tested", heading)
			continue
		}
		t.Run(heading, func(t *testing.T) { tests[heading](t, site) })
		delete(tests, heading)
	}
	for heading := range tests {
		t.Errorf("there is no Caddyfile below %q", heading)
	}
}

// startSite runs a site of the document with replacements, of what stands there by what the
// test has in its place.
func startSite(t *testing.T, site string, replacements ...string) *wstest.Server {
	t.Helper()
	replacements = append(replacements, "localhost:3000", wstest.StartApplication(t).Address())
	for i := 0; i < len(replacements); i += 2 {
		if !strings.Contains(site, replacements[i]) {
			t.Fatalf("the Caddyfile doesn't have %q", replacements[i])
		}
	}
	return wstest.Start(t, "respond /no-socket 204\n"+strings.NewReplacer(replacements...).Replace(site))
}

// expectStatus makes sure that a handshake is refused on all protocols with a status.
func expectStatus(t *testing.T, s *wstest.Server, want int, header ...string) {
	t.Helper()
	for _, protocol := range wstest.Protocols {
		if p := s.TryDial(t, protocol, "/", header...); p.Response.StatusCode != want {
			t.Errorf("%s: %v: status %d, want %d", protocol, header, p.Response.StatusCode, want)
		}
	}
}

// expectAccepted makes sure that a handshake is accepted on all protocols.
func expectAccepted(t *testing.T, s *wstest.Server, header ...string) {
	t.Helper()
	for _, protocol := range wstest.Protocols {
		p := s.Dial(t, protocol, "/", header...)
		p.Echo(ws.OpText, "hello")
		p.Conn.Close()
	}
}

func documentOrigins(t *testing.T, site string) {
	s := startSite(t, site)
	expectAccepted(t, s, "Origin", "https://www.example.com")
	expectAccepted(t, s)
	expectStatus(t, s, http.StatusForbidden, "Origin", "https://evil.example")
}

func documentPasswords(t *testing.T, site string) {
	s := startSite(t, site)
	expectStatus(t, s, http.StatusUnauthorized)
	for _, protocol := range wstest.Protocols {
		for range 5 {
			s.Dial(t, protocol, "/", "Authorization", "Basic YWxpY2U6aGljY3Vw").Echo(ws.OpText, "hello")
		}
		if protocol == "tls" { // plain HTTP has a server, and so counts, of its own
			break
		}
	}
	expectStatus(t, s, http.StatusServiceUnavailable, "Authorization", "Basic YWxpY2U6aGljY3Vw")
}

func documentService(t *testing.T, site string) {
	a := startAuthService(t)
	a.login("ada", true)
	s := startSite(t, site, "localhost:9091", a.Listener.Addr().String())
	expectStatus(t, s, http.StatusFound)
	expectStatus(t, s, http.StatusForbidden, "Cookie", "user=ada", "X-Expires", "1h") // the service sets none
	a.expire("1h")
	expectAccepted(t, s, "Cookie", "user=ada")
	for _, r := range a.requests("ada") {
		if r.Header.Get("Upgrade") != "" || r.Header.Get("Connection") != "" || r.Header.Get("Sec-WebSocket-Version") != "" {
			t.Errorf("asked with %v", r.Header)
		}
	}
}

func documentTokens(t *testing.T, site string) {
	s := startSite(t, site, "# The module's own directive comes here.", "bearer")
	expectStatus(t, s, http.StatusUnauthorized)
	expectAccepted(t, s, "Authorization", bearerToken(t, "ada", time.Now().Add(time.Hour)))
}

func documentRevoked(t *testing.T, site string) {
	a := startAuthService(t)
	a.login("ada", true)
	s := startSite(t, site, "localhost:9091", a.Listener.Addr().String(), "recheck 1m", "recheck 1s")
	p := s.Dial(t, "http2", "/", "Cookie", "user=ada")
	p.Echo(ws.OpText, "hello")
	a.login("ada", false)
	p.ExpectClose(1008, "no longer authorized")
}

func documentLogs(t *testing.T, site string) {
	const secret = "the.secret"
	file := filepath.Join(t.TempDir(), "access.log")
	s := startSite(t, site, "log {", "log {\noutput file "+file+" {\nroll_disabled\n}")
	for _, protocol := range wstest.Protocols {
		p := s.Dial(t, protocol, "/?token="+secret+"&room=1", "Sec-WebSocket-Protocol", secret)
		p.Conn.Close()
	}
	for deadline := time.Now().Add(wstest.Timeout); ; time.Sleep(time.Millisecond) {
		logged, _ := os.ReadFile(file) // there may be none yet
		if bytes.Contains(logged, []byte(secret)) {
			t.Errorf("logged: %s", logged)
		}
		if bytes.Count(logged, []byte("token=REDACTED")) == len(wstest.Protocols) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("logged: %s", logged)
		}
	}
}

// documentCertificates has a client with a certificate of the devices' authority, and one
// without.
func documentCertificates(t *testing.T, site string) {
	device, authority := deviceCertificate(t)
	cert, key := wstest.Certificate()
	site = strings.NewReplacer("tls {", "tls "+cert+" "+key+" {", "devices.pem", authority, "localhost:3000", wstest.StartApplication(t).Address()).Replace(site)
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte("{\nadmin off\nauto_https off\npersist_config off\n}\nhttps://localhost:0 {\nbind localhost\n"+site+"\n}"), nil)
	if err != nil {
		t.Fatal(err)
	}
	s := wstest.Start(t, "respond ok")
	s.Load(t, bytes.ReplaceAll(config, []byte(`"srv0":`), []byte(`"plain":{"listen":["127.0.0.1:0"]},"secure":`)))
	dial := func(certificates ...tls.Certificate) (*websocket.Conn, *http.Response, error) {
		config := wstest.InsecureTLS("http/1.1")
		config.Certificates = certificates
		return (&websocket.Dialer{TLSClientConfig: config}).Dial("wss://"+strings.Replace(s.Secure, "127.0.0.1", "localhost", 1), nil)
	}
	if _, _, err := dial(); err == nil {
		t.Error("a client without a certificate is accepted")
	}
	conn, _, err := dial(device)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, response, err := dial(device); err == nil || response == nil || response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the device's second socket: %v, want status 503", err)
	}
}

// deviceCertificate returns a client certificate that is its own authority, and the file with
// that.
func deviceCertificate(t *testing.T) (certificate tls.Certificate, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "devices.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}
