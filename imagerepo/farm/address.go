package farm

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"puavo-image-repository/meta/untrusted"
)

// Embedded is what Options.Queue begins with where the builder is the server of the queue.
const Embedded = "embedded"

// DefaultAddress is where such a builder listens if nothing else is said.
const DefaultAddress = "127.0.0.1:4280"

// CheckQueue returns an error for what is no Options.Queue.
func CheckQueue(q string) error {
	if address, ok := embedded(q); ok {
		_, _, err := net.SplitHostPort(address)
		return err
	}
	u, err := url.Parse(q)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "nats" && u.Scheme != "tls":
		return errors.New("want embedded, embedded:HOST:PORT, or the URL of a NATS server, tls://HOST:PORT")
	case u.Scheme == "nats" && !isLoopback(u.Host):
		return errors.New("a NATS server on another machine must have TLS: want tls://HOST:PORT")
	}
	return nil
}

func embedded(q string) (address string, ok bool) {
	rest, ok := strings.CutPrefix(q, Embedded)
	if !ok || rest == "" {
		return DefaultAddress, ok
	}
	address, ok = strings.CutPrefix(rest, ":")
	return address, ok
}

// isLoopback reports whether only this machine reaches an address, with a port or without.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = strings.Trim(address, "[]")
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// next returns the address with the port after that of another one.
func next(address string) string {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return ""
	}
	return netip.AddrPortFrom(a.Addr(), a.Port()+1).String()
}

// ParseQueue returns the URL of a queue that users name, and whether it must have TLS, as all must
// that are on another machine:
//
//	HOST[:PORT], nats://HOST[:PORT]   a builder's own, whose certificate follows from the token
//	tls://HOST[:PORT]                 another server, whose certificate the system trusts
func ParseQueue(s string) (queueURL string, withTLS bool, err error) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		scheme, rest = "nats", s
	}
	u, err := url.Parse("nats://" + rest)
	if err != nil || u.Hostname() == "" || u.Path != "" && u.Path != "/" {
		return "", false, errors.New("want HOST:PORT, or a URL nats://HOST:PORT or tls://HOST:PORT")
	}
	if scheme != "nats" && scheme != "tls" {
		return "", false, fmt.Errorf("the scheme %s://; want nats:// or tls://", untrusted.Show(scheme))
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), "4280")
	}
	u.Scheme = scheme
	return u.String(), scheme == "tls" || !isLoopback(u.Host), nil
}

func hostOf(address string) string {
	host, _, _ := net.SplitHostPort(address)
	return host
}
