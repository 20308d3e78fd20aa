package sftp

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"puavo-image-repository/meta/untrusted"
)

// hosts are the keys of servers that are known.
type hosts struct {
	add   string // the file to which keys are added
	known ssh.HostKeyCallback
}

// knownHosts reads the files with keys of hosts. Those that are usual may be missing.
func knownHosts(o Options) (hosts, error) {
	files := []string{o.KnownHosts}
	if o.KnownHosts == "" {
		files = []string{"/etc/ssh/ssh_known_hosts"}
		if home, err := os.UserHomeDir(); err == nil {
			files = slices.Insert(files, 0, filepath.Join(home, ".ssh", "known_hosts"))
		}
	}
	h := hosts{add: files[0]}
	if o.KnownHosts == "" {
		files = slices.DeleteFunc(files, func(file string) bool { _, err := os.Stat(file); return err != nil })
	}
	var err error
	if h.known, err = knownhosts.New(files...); err != nil {
		return hosts{}, fmt.Errorf("reading the keys of hosts: %w", untrusted.Error(err))
	}
	return h, nil
}

// algorithms returns the algorithms by which the server can prove a known key. It could
// otherwise choose a key of another type, which would look like a changed key. For a host
// without known keys, it returns nil, which stands for all.
func (h hosts) algorithms(address string) (all []string) {
	unknown, ok := errors.AsType[*knownhosts.KeyError](h.known(address, &net.TCPAddr{IP: net.IPv4zero}, noKey{}))
	if !ok {
		return nil
	}
	for _, key := range unknown.Want {
		algorithms := algorithmsOf(key.Key.Type())
		if isAuthority(key) {
			algorithms = certificates
		}
		for _, a := range algorithms {
			if !slices.Contains(all, a) {
				all = append(all, a)
			}
		}
	}
	return all
}

// noKey is a key that no host has.
type noKey struct{ ssh.PublicKey }

func (noKey) Type() string    { return "none" }
func (noKey) Marshal() []byte { return nil }

// algorithmsOf returns the signature algorithms of a type of keys.
func algorithmsOf(kind string) []string {
	if kind == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{kind}
}

// certificates are the algorithms for keys that an authority has signed.
var certificates = []string{
	ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01,
	ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01,
}

// isAuthority reports whether a known key is that of an authority, which package
// knownhosts does not say.
func isAuthority(key knownhosts.KnownKey) bool {
	f, err := os.Open(key.Filename)
	if err != nil {
		return false
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for range key.Line {
		lines.Scan()
	}
	return strings.HasPrefix(strings.TrimSpace(lines.Text()), "@cert-authority")
}

// check returns an error for a key that is not known as one of the server, which says what
// to do.
func (h hosts) check(address string, remote net.Addr, key ssh.PublicKey) error {
	err := h.known(address, remote, key)
	if _, ok := errors.AsType[*knownhosts.RevokedError](err); ok {
		return fmt.Errorf("the server has the key %s, which was revoked in a file of known hosts: do not publish there before its administrator has explained it", describe(key))
	}
	unknown, ok := errors.AsType[*knownhosts.KeyError](err)
	if !ok {
		return err
	}
	if len(unknown.Want) > 0 {
		was := unknown.Want[0]
		return fmt.Errorf("THE KEY OF THE SERVER HAS CHANGED: it is %s, but %s line %d has %s. Somebody may be listening in. "+
			"Ask the server's administrator whether the key was replaced. If it was, remove the old one by: ssh-keygen -R %s -f %[2]s",
			describe(key), was.Filename, was.Line, describe(was.Key), quote(knownhosts.Normalize(address)))
	}
	host, port, _ := net.SplitHostPort(address)
	return fmt.Errorf("the key of the server is not known: it is %s. Compare it with what the server's administrator says "+
		"(ssh-keygen -lf on the server's /etc/ssh/ssh_host_*_key.pub), then add it by: ssh-keyscan -t %s -p %s %s >>%s",
		describe(key), scanName(key.Type()), port, quote(host), h.add)
}

// describe returns type and fingerprint of a key.
func describe(key ssh.PublicKey) string { return key.Type() + " " + ssh.FingerprintSHA256(key) }

// scanName returns what ssh-keyscan calls a type of keys.
func scanName(kind string) string {
	switch {
	case strings.HasPrefix(kind, "ecdsa-"):
		return "ecdsa"
	case kind == ssh.KeyAlgoRSA:
		return "rsa"
	}
	return strings.TrimPrefix(kind, "ssh-")
}

// quote returns a word of a command line for a shell.
func quote(word string) string {
	return "'" + strings.ReplaceAll(untrusted.Show(word), "'", `'\''`) + "'"
}
