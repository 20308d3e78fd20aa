package sftp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"puavo-image-repository/testdata"
)

// newKey returns the path of a new private key.
func newKey(t *testing.T, kind, passphrase string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	testdata.Run(t, "ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", file)
	return file
}

// serveAgent has an SSH agent hold these keys, for the time of the test.
func serveAgent(t *testing.T, files ...string) {
	t.Helper()
	ring := agent.NewKeyring()
	for _, file := range files {
		key, err := ssh.ParseRawPrivateKey(read(t, file))
		if _, locked := errors.AsType[*ssh.PassphraseMissingError](err); locked {
			key, err = ssh.ParseRawPrivateKeyWithPassphrase(read(t, file), []byte("secret"))
		}
		ok(t, errors.Join(err, ring.Add(agent.AddedKey{PrivateKey: key})))
	}
	socket := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", socket)
	ok(t, err)
	t.Cleanup(func() { l.Close() })
	go func() { // ends with the listener
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				defer conn.Close()
				agent.ServeAgent(ring, conn)
			}()
		}
	}()
	t.Setenv("SSH_AUTH_SOCK", socket)
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	ok(t, err)
	return data
}

func write(t *testing.T, file string, data []byte) {
	t.Helper()
	ok(t, os.MkdirAll(filepath.Dir(file), 0o700))
	ok(t, os.WriteFile(file, data, 0o600))
}

// fingerprint returns that of a key by ssh-keygen.
func fingerprint(t *testing.T, file string) string {
	t.Helper()
	return strings.Fields(string(testdata.Run(t, "ssh-keygen", "-lf", file+".pub")))[1]
}

// home is an empty home directory, without an SSH agent, for the time of the test.
func home(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("SSH_AUTH_SOCK", "")
	return dir
}

// The user logs in with the chosen key, or with the usual ones.
func TestUserKeys(t *testing.T) {
	server := testdata.NewSSHD(t, "internal-sftp")
	good := server.KeyFile
	foreign, locked := newKey(t, "ed25519", ""), newKey(t, "ed25519", "secret")
	keys := append(read(t, good+".pub"), read(t, locked+".pub")...)
	write(t, good+".pub", keys) // which is what the server authorizes
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T, home string)
		file    string
		want    []string // in the error
	}{
		{"a file", func(t *testing.T, home string) {}, good, nil},
		{"a foreign key", func(t *testing.T, home string) {}, foreign, []string{"none of the keys", foreign, "authorized_keys"}},
		{"a file, not the agent", func(t *testing.T, home string) { serveAgent(t, good) }, foreign, []string{"none of the keys", foreign}},
		{"the agent", func(t *testing.T, home string) { serveAgent(t, foreign, good) }, "", nil},
		{"an agent with nothing fitting", func(t *testing.T, home string) { serveAgent(t, foreign) }, "", []string{"none of the keys", "SSH agent: 1 keys"}},
		{"an agent that is gone", func(t *testing.T, home string) { t.Setenv("SSH_AUTH_SOCK", home+"/none") }, "", []string{"no key to log in with", "ssh-keygen"}},
		{"the usual file", func(t *testing.T, home string) { write(t, home+"/.ssh/id_ed25519", read(t, good)) }, "", nil},
		{"the last usual file", func(t *testing.T, home string) {
			write(t, home+"/.ssh/id_ed25519", read(t, foreign))
			write(t, home+"/.ssh/id_rsa", read(t, good))
		}, "", nil},
		{"nothing", func(t *testing.T, home string) {}, "", []string{"no SSH agent", "no key to log in with", "ssh-keygen"}},
		{"no such file", func(t *testing.T, home string) {}, "/none", []string{"/none", "no such file"}},
		{"no key", func(t *testing.T, home string) {}, good + ".pub", []string{good + ".pub", "no key found"}},
		{"a passphrase", func(t *testing.T, home string) {}, locked, []string{"passphrase", "ssh-add " + locked}},
		{"a passphrase, another in the agent", func(t *testing.T, home string) { serveAgent(t, good) }, locked, []string{"passphrase"}},
		{"a passphrase, and it is in the agent", func(t *testing.T, home string) { serveAgent(t, foreign, locked) }, locked, nil},
		{"the usual file with a passphrase", func(t *testing.T, home string) { write(t, home+"/.ssh/id_ed25519", read(t, locked)) }, "", []string{"ssh-add"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.prepare(t, home(t))
			o := options(server, t.TempDir())
			o.KeyFile = c.file
			check(t, o, c.want)
		})
	}
}

// check opens a destination. It wants all of these words in the error, or none.
func check(t *testing.T, o Options, want []string) {
	t.Helper()
	s, err := open(t.Context(), o, quick)
	if err == nil {
		s.Close()
	}
	if (err == nil) != (want == nil) {
		t.Fatalf("%v, want %q", err, want)
	}
	for _, word := range want {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("no %q in: %v", word, err)
		}
	}
	if err != nil && strings.Contains(err.Error(), "secret") {
		t.Errorf("a secret in: %v", err)
	}
}

// Only a server whose key is known is published to.
func TestHostKeys(t *testing.T) {
	ecdsa, rsa := newKey(t, "ecdsa", ""), newKey(t, "rsa", "")
	server := testdata.NewSSHD(t, "internal-sftp", "HostKey "+ecdsa, "HostKey "+rsa)
	own := read(t, server.KnownHosts)
	other := newKey(t, "ed25519", "")
	name := fmt.Sprintf("[127.0.0.1]:%d ", server.Port)
	entry := func(key string) []byte { return append([]byte(name), read(t, key+".pub")...) }
	hashed := func() []byte {
		file := filepath.Join(t.TempDir(), "known_hosts")
		write(t, file, own)
		testdata.Run(t, "ssh-keygen", "-q", "-H", "-f", file)
		return read(t, file)
	}
	ed := fingerprint(t, server.HostKey)
	unknown := []string{"not known", "SHA256:", "ssh-keyscan -t ", fmt.Sprintf("-p %d '127.0.0.1' >>", server.Port)}
	for _, c := range []struct {
		name  string
		known []byte
		want  []string
	}{
		{"known", own, nil},
		{"hashed", hashed(), nil},
		{"with others before it", append(entry(other), own...), nil},
		{"only ecdsa is known", entry(ecdsa), nil},
		{"only rsa is known", entry(rsa), nil},
		{"nothing is known", nil, unknown},
		{"another port is known", append([]byte("127.0.0.1 "), read(t, server.HostKey+".pub")...), unknown},
		{"changed", entry(other), []string{"HAS CHANGED", ed, fingerprint(t, other), "line 1", "ssh-keygen -R"}},
		{"revoked", append(own, append([]byte("@revoked * "), read(t, server.HostKey+".pub")...)...), []string{"revoked", ed}},
		{"no list", []byte("127.0.0.1 ssh-ed25519 !\n"), []string{"keys of hosts", "known_hosts:1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := options(server, t.TempDir())
			o.KnownHosts = filepath.Join(t.TempDir(), "known_hosts")
			write(t, o.KnownHosts, c.known)
			check(t, o, c.want)
		})
	}
	t.Run("usual", func(t *testing.T) {
		o := options(server, t.TempDir())
		o.KnownHosts = ""
		dir := home(t)
		check(t, o, []string{"not known", dir + "/.ssh/known_hosts"})
		write(t, dir+"/.ssh/known_hosts", own)
		check(t, o, nil)
	})
	t.Run("missing", func(t *testing.T) {
		o := options(server, t.TempDir())
		o.KnownHosts = "/none"
		check(t, o, []string{"/none"})
	})
	t.Run("as the error says", func(t *testing.T) { followed(t, server) })
}

// followed does what the error for an unknown key says, and then it is known.
func followed(t *testing.T, server *testdata.SSHD) {
	o := options(server, t.TempDir())
	o.KnownHosts = filepath.Join(t.TempDir(), "known_hosts")
	write(t, o.KnownHosts, nil)
	_, err := open(t.Context(), o, quick)
	_, command, ok := strings.Cut(fmt.Sprint(err), "add it by: ")
	if !ok {
		t.Fatal(err)
	}
	testdata.Run(t, "sh", "-c", command)
	check(t, o, nil)
}

// A key that an authority has signed is known where the authority is.
func TestHostCertificate(t *testing.T) {
	authority, host := newKey(t, "ed25519", ""), newKey(t, "ed25519", "")
	testdata.Run(t, "ssh-keygen", "-q", "-s", authority, "-I", "test", "-h", "-n", "127.0.0.1", host+".pub")
	server := testdata.NewSSHD(t, "internal-sftp", "HostKey "+host, "HostCertificate "+host+"-cert.pub")
	for _, c := range []struct {
		name, marker, key string
		want              []string
	}{
		{"the authority", "@cert-authority ", authority, nil},
		{"another authority", "@cert-authority ", newKey(t, "ed25519", ""), []string{"authorit"}},
		{"the key itself", "", server.HostKey, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := options(server, t.TempDir())
			o.KnownHosts = filepath.Join(t.TempDir(), "known_hosts")
			write(t, o.KnownHosts, fmt.Appendf(nil, "%s[127.0.0.1]:%d %s", c.marker, server.Port, read(t, c.key+".pub")))
			check(t, o, c.want)
		})
	}
}

// A server that does not answer is an error, at the latest when time is up.
func TestUnreachable(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // it accepts, and says nothing
	ok(t, err)
	defer silent.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	closed.Close()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	key := newKey(t, "ed25519", "")
	for _, c := range []struct {
		name string
		ctx  context.Context
		at   net.Listener
		want error
	}{
		{"silent", t.Context(), silent, errUnreachable},
		{"closed", t.Context(), closed, errUnreachable},
		{"cancelled", cancelled, silent, context.Canceled},
		{"cancelled meanwhile", soon, silent, context.DeadlineExceeded},
	} {
		t.Run(c.name, func(t *testing.T) {
			port := c.at.Addr().(*net.TCPAddr).Port
			o := Options{User: rand.Text(), Host: "127.0.0.1", Port: port, Path: "/", KnownHosts: os.DevNull, KeyFile: key}
			_, err := open(c.ctx, o, clock{connect: 200 * time.Millisecond})
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}
