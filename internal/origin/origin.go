// Package origin decides which origins (RFC 6454) may open a socket, by the entries of
// allowed_origins.
package origin

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// An Origin is a parsed scheme://host[:port], the form in which browsers
// send it (RFC 6454 §6.2). Scheme and host are in lower case, and the port is
// that of the scheme where none is given.
type Origin struct {
	scheme, host, port string
}

var (
	errScheme   = errors.New("an origin starts with a scheme such as 'https://'")
	errWildcard = errors.New("a wildcard stands for the first label, as in 'https://*.example.com', " +
		"for the port, as in 'http://localhost:*', for the host of a scheme other than http and https, " +
		"as in 'moz-extension://*', or alone for any origin")
)

// Parse parses the ASCII serialization of an origin: a scheme, "://", a
// host, and a port unless it is the scheme's own. A path, even "/", a list of
// origins or anything else around it is an error.
func Parse(s string) (Origin, error) {
	scheme, authority, ok := strings.Cut(s, "://")
	if !ok || !validScheme(scheme) {
		return Origin{}, errScheme
	}
	o := Origin{scheme: strings.ToLower(scheme)}
	var err error
	if o.host, o.port, err = splitAuthority(authority); err != nil {
		return Origin{}, err
	}
	if o.port == "" {
		o.port = defaultPort(o.scheme)
	}
	return o, nil
}

// Of returns the origin of a page of the site that a request was
// made to: the zero Origin, which nothing equals, if host is malformed.
func Of(secure bool, host string) Origin {
	scheme := "http"
	if secure {
		scheme = "https"
	}
	o, err := Parse(scheme + "://" + host)
	if err != nil {
		return Origin{}
	}
	return o
}

// splitAuthority splits host[:port] and puts the host in lower case.
func splitAuthority(s string) (host, port string, err error) {
	if err := checkSeparators(s); err != nil {
		return "", "", err
	}
	if strings.Contains(s, "/") {
		return "", "", errors.New("an origin has no path")
	}
	host = s
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		host, port = s[:i], s[i+1:]
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
			return "", "", fmt.Errorf("port '%s' is not a number from 1 to 65535", port)
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		addr, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || !addr.Is6() || addr.Zone() != "" || !strings.HasSuffix(inner, "]") {
			return "", "", fmt.Errorf("host '%s' is not an IPv6 address in brackets", host)
		}
		return "[" + addr.String() + "]", port, nil
	}
	switch {
	case host == "":
		return "", "", errors.New("an origin names a host")
	case host[0] == '.' && host != ".": // which Electron apps have
		return "", "", errors.New("a host name doesn't start with a dot")
	}
	for i := 0; i < len(host); i++ {
		if !isAlnum(host[i]) && host[i] != '-' && host[i] != '.' && host[i] != '_' {
			return "", "", fmt.Errorf("host '%s' has a character that host names don't have", host)
		}
	}
	return strings.ToLower(host), port, nil
}

// checkSeparators refuses what separates one origin from another, or from what
// else a URL has.
func checkSeparators(s string) error {
	if strings.ContainsAny(s, ", ") {
		return errors.New("an entry is one origin: write each as an entry of its own")
	}
	if strings.ContainsAny(s, "?#@") {
		return errors.New("an origin has no user name, query or fragment")
	}
	return nil
}

// validScheme reports whether s is a scheme (RFC 3986 §3.1).
func validScheme(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isAlnum(s[i]) && (i == 0 || s[i] != '+' && s[i] != '-' && s[i] != '.') {
			return false
		}
	}
	return s != "" && (s[0] < '0' || s[0] > '9')
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// defaultPort is the port of the schemes that have one, which are those of web
// pages and, as some clients send the URL of their socket, of sockets.
func defaultPort(scheme string) string {
	switch strings.ToLower(scheme) {
	case "http", "ws":
		return "80"
	case "https", "wss":
		return "443"
	}
	return ""
}
