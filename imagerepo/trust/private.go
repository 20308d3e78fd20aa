package trust

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"regexp"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/meta"
)

var keyName = regexp.MustCompile(`^(root|targets|snapshot|timestamp)\.([0-9a-f]{8})\.key$`)

// encrypt and decrypt are variables because they are slow by design, which tests
// avoid.
var encrypt, decrypt = encrypted.Encrypt, encrypted.Decrypt

// shortID returns the part of a key id that is in the name of its file.
func shortID(id string) string { return id[:min(8, len(id))] }

func keyFile(role, id string) string { return role + "." + shortID(id) + ".key" }

// hasPrivate reports whether a private key is in the directory.
func (k *Keys) hasPrivate(role, id string) bool {
	info, err := k.dir.Lstat(keyFile(role, id))
	return err == nil && info.Mode().IsRegular()
}

// askPassphrase returns the passphrase, and asks for it the first time.
func (k *Keys) askPassphrase(fresh bool) ([]byte, error) {
	if k.passphrase != nil {
		return k.passphrase, nil
	}
	passphrase, err := k.options.Passphrase(fresh)
	if err != nil {
		return nil, err
	}
	if len(passphrase) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrPassphrase)
	}
	k.passphrase = passphrase
	return passphrase, nil
}

// generateKey makes a key, and writes its private part.
func (k *Keys) generateKey(role string) (*metadata.Key, error) {
	passphrase, err := k.verifiedPassphrase()
	if err != nil {
		return nil, err
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := metadata.KeyFromPublicKey(public)
	if err != nil {
		return nil, err
	}
	id, err := key.ID()
	if err != nil {
		return nil, err
	}
	if k.hasPrivate(role, id) {
		return k.generateKey(role) // its file name is taken
	}
	sealed, err := seal(private, passphrase)
	if err != nil {
		return nil, err
	}
	k.verified = true
	return key, k.write(keyFile(role, id), sealed, 0o600)
}

// verifiedPassphrase returns the passphrase after it decrypted a private key of the
// directory, if there is one: all must have the same passphrase.
func (k *Keys) verifiedPassphrase() ([]byte, error) {
	if k.verified {
		return k.passphrase, nil
	}
	entries, err := fs.ReadDir(k.dir.FS(), ".")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if keyName.MatchString(e.Name()) {
			if _, err := k.readKey(e.Name()); err != nil {
				return nil, err
			}
			return k.askPassphrase(false)
		}
	}
	return k.askPassphrase(true)
}

// signer returns the signer for a key that a root names, nil if the private key is
// not in the directory.
func (k *Keys) signer(role, id string) (signature.Signer, error) {
	if s := k.signers[id]; s != nil {
		return s, nil
	}
	if !k.hasPrivate(role, id) {
		return nil, nil
	}
	private, err := k.readKey(keyFile(role, id))
	if err != nil {
		return nil, err
	}
	s, err := signature.LoadED25519Signer(private)
	if err != nil {
		return nil, err
	}
	key, err := metadata.KeyFromPublicKey(private.Public())
	if err != nil {
		return nil, err
	}
	if is, err := key.ID(); err != nil || is != id {
		return nil, fmt.Errorf("%s is the key %s, not %s; restore it from a copy", k.path(keyFile(role, id)), shortID(is), shortID(id))
	}
	k.signers[id] = s
	return s, nil
}

// readKey reads and decrypts a private key.
func (k *Keys) readKey(name string) (ed25519.PrivateKey, error) {
	sealed, err := k.dir.ReadFile(name, maxFile)
	if err != nil {
		return nil, err
	}
	passphrase, err := k.askPassphrase(false)
	if err != nil {
		return nil, err
	}
	private, err := unseal(sealed, passphrase)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; give the passphrase that it was created with, or restore the file from a copy", k.path(name), err)
	}
	k.verified = true
	return private, nil
}

// seal encrypts a private key.
func seal(private ed25519.PrivateKey, passphrase []byte) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	defer clear(text)
	defer clear(der)
	return encrypt(text, passphrase)
}

// unseal decrypts a private key.
func unseal(sealed, passphrase []byte) (ed25519.PrivateKey, error) {
	text, err := decrypt(sealed, passphrase)
	if err != nil {
		return nil, fmt.Errorf("%w, or a damaged file: %w", ErrPassphrase, meta.PlainJSON(err))
	}
	defer clear(text)
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("it contains no PEM block")
	}
	defer clear(block.Bytes)
	var key crypto.PrivateKey
	if key, err = x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
		return nil, err
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("it is not an Ed25519 key")
	}
	return private, nil
}

// copyOnline copies the files of another keys directory but its lock and the private keys
// of the role root.
func (k *Keys) copyOnline(from atomicfile.Dir) error {
	entries, err := fs.ReadDir(from.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if m := keyName.FindStringSubmatch(e.Name()); e.Name() == lockName || m != nil && m[1] == Root {
			continue
		}
		data, err := from.ReadFile(e.Name(), maxFile)
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if err := k.write(e.Name(), data, info.Mode().Perm()); err != nil {
			return err
		}
	}
	return nil
}
