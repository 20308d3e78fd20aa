// Package secret is what builder and workers of a farm share: a token. All else follows from it:
// the name of the farm at a cluster that several use, the passwords, and the key of the builder's
// certificate, which workers compare with their own. So a file with the token is all that is
// copied, and whoever has it is trusted as builder and as worker.
package secret

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"time"
)

// Token is the secret of a farm.
type Token struct{ text string }

const (
	minToken = 32 // bytes
	// MaxToken bounds a token with the white space around it, in bytes.
	MaxToken = 4 << 10
)

// New makes a token.
func New() Token { return Token{rand.Text() + rand.Text()} }

// Parse returns the token in a file with these bytes.
func Parse(data []byte) (Token, error) {
	text := bytes.TrimSpace(data)
	if len(text) < minToken || len(text) > MaxToken {
		return Token{}, fmt.Errorf("a token has %d to %d characters, and this %d; copy the builder's file, or make one by openssl rand -hex 32", minToken, MaxToken, len(text))
	}
	for _, c := range text {
		if c <= ' ' || c > '~' {
			return Token{}, errors.New("a token is one line of ASCII without spaces")
		}
	}
	return Token{string(text)}, nil
}

// File returns the bytes of a file with the token.
func (t Token) File() []byte { return []byte(t.text + "\n") }

// derive returns 32 bytes for one use.
func (t Token) derive(use string) []byte {
	key, err := hkdf.Key(sha256.New, []byte(t.text), nil, "puavo-image-repository farm 1 "+use, 32)
	if err != nil {
		panic(err) // 32 bytes are not too many
	}
	return key
}

// Name is that of the farm, for builders and workers whose program has this version: others
// could make other bytes of the same images.
func (t Token) Name(version string) string {
	return hex.EncodeToString(t.derive("name " + version)[:8])
}

// Queue is the password of the builder's own queue.
func (t Token) Queue() string { return hex.EncodeToString(t.derive("queue")) }

func (t Token) bearer() string { return "Bearer " + hex.EncodeToString(t.derive("http")) }

// Authorize adds to a request who makes it.
func (t Token) Authorize(r *http.Request) { r.Header.Set("Authorization", t.bearer()) }

// Check answers requests of others by 401, and hands those of the farm on.
func (t Token) Check(h http.Handler) http.Handler {
	want := []byte(t.bearer())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), want) != 1 {
			http.Error(w, "another token", http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func (t Token) key() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(t.derive("tls")) }

// Server returns what a builder offers.
func (t Token) Server() (*tls.Config, error) {
	key := t.key()
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "puavo farm"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("the farm's certificate: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, nil
}

// ErrOther is wrapped by the error for a server that has another token.
var ErrOther = errors.New("the server's certificate is not made of this token; copy the builder's token file")

// Client returns what a worker accepts: the key that follows from the token, whatever names and
// times the certificate has.
func (t Token) Client() *tls.Config {
	want, _ := t.key().Public().(ed25519.PublicKey)
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, // VerifyConnection compares the key itself
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 || !want.Equal(s.PeerCertificates[0].PublicKey) {
				return ErrOther
			}
			return nil
		},
	}
}
