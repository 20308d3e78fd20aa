package farming

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"puavo-image-repository/cksum"
)

// Moving is what moving bytes takes of a core at each end, in CPU-seconds a byte.
type Moving struct{ Send, Receive float64 }

// MeasureMoving measures how a file reaches another process over loopback, as images reach a
// worker: by a server of package http, over TLS if that is wanted, to be written and digested. The
// other side's answers to packets are in it, as both are one machine here.
func MeasureMoving(ctx context.Context, file string, withTLS bool, tmp string) (m Moving, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return m, err
	}
	url, client := "http://"+l.Addr().String(), &http.Client{}
	if withTLS {
		config, err := selfSigned()
		if err != nil {
			return m, errors.Join(err, l.Close())
		}
		l = tls.NewListener(l, config)
		url = "https://" + l.Addr().String()
		client.Transport = &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // the server is this process
			TLSNextProto:    map[string]func(string, *tls.Conn) http.RoundTripper{},
		}
	}
	sent := make(chan float64, 1)
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seconds, _ := onThread(func() error { http.ServeFile(w, r, file); return nil })
		sent <- seconds
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }() // ends with Close
	defer func() {
		client.CloseIdleConnections()
		err = errors.Join(err, server.Close())
		<-ended
	}()
	var n int64
	m.Receive, err = onThread(func() error { n, err = receive(ctx, client, url, tmp); return err })
	if err == nil && n == 0 {
		err = errors.New("an empty file")
	}
	if err != nil {
		return m, err
	}
	return Moving{<-sent / float64(n), m.Receive / float64(n)}, nil
}

// receive fetches, writes and digests what a URL has, as a worker does.
func receive(ctx context.Context, client *http.Client, url, tmp string) (n int64, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	res, err := client.Do(r)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return 0, errors.New(res.Status)
	}
	f, err := os.CreateTemp(tmp, "received")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	return io.Copy(io.MultiWriter(f, cksum.NewBLAKE3()), res.Body)
}

// onThread returns the CPU-seconds that a call takes on its thread.
func onThread(do func() error) (seconds float64, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, after unix.Rusage
	err = errors.Join(unix.Getrusage(unix.RUSAGE_THREAD, &before), do(), unix.Getrusage(unix.RUSAGE_THREAD, &after))
	return spent(before, after), err
}

// selfSigned returns the configuration of a server with a certificate of its own.
func selfSigned() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, nil
}
