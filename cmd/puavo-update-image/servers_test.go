package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// authority signs the certificates of servers.
type authority struct {
	file        string // of its own certificate
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{file: filepath.Join(t.TempDir(), "authority.pem"), certificate: &x509.Certificate{
		Subject: pkix.Name{CommonName: "a school's authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	var signed []byte
	a.key, signed = a.sign(t, a.certificate)
	write(t, a.file, string(signed))
	return a
}

// sign makes a key, and a certificate of it, in PEM form. The first that an authority
// signs is its own.
func (a *authority) sign(t *testing.T, c *x509.Certificate) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	signer := a.key
	if signer == nil {
		signer = key
	}
	signed, err := x509.CreateCertificate(rand.Reader, c, a.certificate, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed})
}

// issue returns the path of a file with a certificate of a host and its key.
func (a *authority) issue(t *testing.T, host string) string {
	t.Helper()
	key, signed := a.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}})
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), host+".pem")
	write(t, file, string(signed)+string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	return file
}

// server is one of the servers of nginx.
type server struct {
	host, address string
	dir           string // what it serves
	options       string // more of its configuration
	certificate   string // path of a file with the key, too
}

func (s server) conf() string {
	return fmt.Sprintf(`server {
		listen %s ssl;
		server_name %s;
		ssl_certificate %s;
		ssl_certificate_key %[3]s;
		root %s;
		%s
	}
`, s.address, s.host, s.certificate, s.dir, s.options)
}

const nginxConf = `daemon off;
user root;
worker_processes 1;
pid nginx.pid;
events {}
http {
	default_type application/octet-stream;
	log_format asked '$server_name $status $request_uri';
	access_log access.log asked;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	%s
}
`

// nginx is the web server of that name.
type nginx struct {
	t    *testing.T
	dir  string // its own files
	stop func()
}

// startNginx starts it with these servers, until the test ends.
func startNginx(t *testing.T, servers []server) *nginx {
	t.Helper()
	n := &nginx{t: t, dir: t.TempDir()}
	conf := ""
	for _, s := range servers {
		conf += s.conf()
	}
	write(t, filepath.Join(n.dir, "nginx.conf"), fmt.Sprintf(nginxConf, conf))
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, "nginx", "-p", n.dir, "-e", "error.log", "-c", "nginx.conf")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) } // it writes its log to the end
	cmd.WaitDelay = 10 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // should the test be killed
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { // ends with the server
		cmd.Wait()
		close(ended)
	}()
	n.stop = func() { cancel(); <-ended }
	t.Cleanup(n.stop)
	for !answers(servers[0].address) {
		select {
		case <-ended:
			t.Fatalf("nginx does not start: %s", read(t, filepath.Join(n.dir, "error.log")))
		case <-time.After(5 * time.Millisecond):
		}
	}
	return n
}

func answers(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// asked stops the server and returns what it was asked for: the host, the status of the
// answer, and the path.
func (n *nginx) asked() (all []string) {
	n.t.Helper()
	n.stop()
	for line := range strings.Lines(read(n.t, filepath.Join(n.dir, "access.log"))) {
		all = append(all, strings.Replace(strings.TrimSuffix(line, "\n"), " /", " ", 1))
	}
	return all
}
