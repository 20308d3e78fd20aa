package fetch

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// certify returns a certificate for a server that is signed by its own key.
func certify(t *testing.T, change func(c *x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a server"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	change(c)
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// A certificate that is not accepted is an error that says what helps, in bounds and
// without control characters, whatever names it has.
func TestCertificates(t *testing.T) {
	const (
		authority = "; if the certificate is your own, give its authority with --ca-certificate FILE"
		wrongName = "; use a name that is in the certificate, or get a certificate for "
		clock     = "; set the clock of this computer, or renew the certificate"
	)
	named := func(names ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = names, nil }
	}
	valid := func(from, to time.Duration) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Now().Add(from), time.Now().Add(to) }
	}
	var many []string
	for i := range 99 {
		many = append(many, fmt.Sprintf("%d%s.example.org", i, strings.Repeat("x", 1000)))
	}
	for _, c := range []struct {
		name   string
		change func(c *x509.Certificate)
		given  bool // as the authority
		other  bool // what is given has the same name, and another key
		host   string
		says   []string // the last one ends the error
	}{
		{"given", func(*x509.Certificate) {}, true, false, "localhost", nil},
		{"not given", func(*x509.Certificate) {}, false, false, "localhost", []string{"unknown authority", authority}},
		{"another name", named("images.example.org"), true, false, "localhost", []string{"images.example.org, not localhost", wrongName + `"localhost"`}},
		{"no address", named("localhost"), true, false, "127.0.0.1", []string{"IP SANs", wrongName + `"127.0.0.1"`}},
		{"another name, not given", named("images.example.org"), false, false, "localhost", []string{"images.example.org, not localhost", wrongName + `"localhost"`}},
		{"names that change the terminal", named("\x1b[2J\x07\n.example.org"), true, false, "localhost", []string{`\x1b[2J\a\n.example.org`, wrongName + `"localhost"`}},
		{"long names", named(many...), true, false, "localhost", []string{"0xxx", wrongName + `"localhost"`}},
		{"an authority whose name changes the terminal", func(c *x509.Certificate) {
			c.Subject.CommonName = "\x1b[2J" + strings.Repeat("x", 60_000)
		}, true, true, "localhost", []string{"unknown authority (possibly because of ", `\x1b[2Jxxx`, authority}},
		{"expired", valid(-time.Hour, -time.Minute), true, false, "localhost", []string{"expired", clock}},
		{"not valid yet", valid(time.Minute, time.Hour), true, false, "localhost", []string{"not yet valid", clock}},
		{"for something else", func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
		}, true, false, "localhost", []string{"incompatible key usage"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			certificate := certify(t, c.change)
			authority := certificate
			if c.other {
				authority = certify(t, c.change)
			}
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			s.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
			s.Config.ErrorLog = log.New(io.Discard, "", 0)
			s.StartTLS()
			defer s.Close()
			o := Options{Patience: hasty}
			if c.given {
				ca := filepath.Join(t.TempDir(), "ca.pem")
				data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Certificate[0]})
				if err := os.WriteFile(ca, data, 0o666); err != nil {
					t.Fatal(err)
				}
				o.Authorities = fromFile(t, ca)
			}
			_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
			m := open(t, "https://"+net.JoinHostPort(c.host, port), o)
			_, err := m.Document(t.Context(), "file", 1)
			if (err != nil) != (c.says != nil) || err != nil && !errors.Is(err, ErrGivenUp) {
				t.Fatalf("got %v", err)
			}
			for i, says := range c.says {
				if last := i == len(c.says)-1; !strings.Contains(err.Error(), says) || last && !strings.HasSuffix(err.Error(), says) {
					t.Errorf("%v, want one that says %q", err, says)
				}
			}
			if err != nil {
				wantPlain(t, err.Error())
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := m.Document(ctx, "file", 1); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
		})
	}
}

// wantPlain wants a text of at most 2 KB without control characters.
func wantPlain(t *testing.T, text string) {
	t.Helper()
	if len(text) > 2<<10 || strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) || !utf8.ValidString(text) {
		t.Errorf("%d bytes: %.3000q", len(text), text)
	}
}
