package sftp

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"puavo-image-repository/meta/untrusted"
)

// config is how to log in, and what was noted while that was tried.
type config struct {
	ssh.ClientConfig
	o     Options
	tried []string // where keys of the user come from, and how many
	host  error    // why the key of the server was refused
}

// login returns how to log in. The caller calls done after that.
func login(o Options) (c *config, done func(), err error) {
	c = &config{o: o}
	known, err := knownHosts(o)
	if err != nil {
		return nil, nil, err
	}
	signers, done, err := c.signers()
	if err != nil {
		return nil, nil, err
	}
	c.User = o.User
	c.Auth = []ssh.AuthMethod{ssh.PublicKeys(signers...)}
	c.HostKeyAlgorithms = known.algorithms(o.address())
	c.HostKeyCallback = func(address string, remote net.Addr, key ssh.PublicKey) error {
		c.host = known.check(address, remote, key)
		return c.host
	}
	return c, done, nil
}

// explain returns what to do about an error of logging in.
func (c *config) explain(err error) error {
	if c.host != nil {
		return c.host
	}
	if types, ok := errors.AsType[*ssh.AlgorithmNegotiationError](err); ok && len(c.HostKeyAlgorithms) > 0 {
		return fmt.Errorf("the server cannot prove that it has one of the keys that are known for it (types: %s): %w", strings.Join(c.HostKeyAlgorithms, ", "), types)
	}
	text := strings.ToLower(err.Error())
	if strings.Contains(text, "unable to authenticate") || strings.Contains(text, "too many authentication failures") {
		return fmt.Errorf("the server accepts none of the keys of user %s (%s): add the public key to ~/.ssh/authorized_keys there, or choose another key: %w",
			untrusted.Show(c.o.User), strings.Join(c.tried, ", "), err)
	}
	return err
}

// loginName returns the name of the current user, "" if it is not known.
func loginName() string {
	for _, name := range []string{"USER", "LOGNAME"} {
		if user := os.Getenv(name); user != "" {
			return user
		}
	}
	return ""
}

// usualKeys are the private keys that are tried, in ~/.ssh.
var usualKeys = []string{"id_ed25519", "id_ecdsa", "id_rsa"}

// signers returns the keys of the user. The caller calls done when it has used them.
func (c *config) signers() (all []ssh.Signer, done func(), err error) {
	held, done := c.fromAgent()
	if c.o.KeyFile != "" {
		all, err = c.fromFile(c.o.KeyFile, held)
	} else {
		all, err = c.usual(held)
	}
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("no key to log in with (%s): make one by ssh-keygen, or start ssh-agent and add one by ssh-add", strings.Join(c.tried, ", "))
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	return all, done, nil
}

// fromAgent returns the keys that the SSH agent holds, none if no agent runs.
func (c *config) fromAgent() (held []ssh.Signer, done func()) {
	socket := os.Getenv("SSH_AUTH_SOCK")
	if socket == "" {
		c.tried = append(c.tried, "no SSH agent")
		return nil, func() {}
	}
	conn, err := net.Dial("unix", socket)
	if err == nil {
		held, err = agent.NewClient(conn).Signers()
	}
	if err != nil {
		c.tried = append(c.tried, "SSH agent: "+untrusted.Error(err).Error())
	} else {
		c.tried = append(c.tried, fmt.Sprintf("SSH agent: %d keys", len(held)))
	}
	if conn == nil {
		return nil, func() {}
	}
	return held, func() { conn.Close() }
}

// usual returns the keys of the agent and those of the usual files that need no passphrase.
func (c *config) usual(held []ssh.Signer) ([]ssh.Signer, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return held, nil
	}
	all := held
	for _, name := range usualKeys {
		file := filepath.Join(home, ".ssh", name)
		key, err := readKey(file)
		switch {
		case err == nil:
			all = append(all, key)
			c.tried = append(c.tried, file)
		case !errors.Is(err, fs.ErrNotExist):
			c.tried = append(c.tried, err.Error())
		}
	}
	return all, nil
}

// fromFile returns the key of a file, or the same one of the agent if it needs a passphrase.
func (c *config) fromFile(file string, held []ssh.Signer) ([]ssh.Signer, error) {
	key, err := readKey(file)
	if err == nil {
		c.tried = []string{file}
		return []ssh.Signer{key}, nil
	}
	locked, ok := errors.AsType[*ssh.PassphraseMissingError](err)
	if !ok || locked.PublicKey == nil {
		return nil, err
	}
	for _, key := range held {
		if string(key.PublicKey().Marshal()) == string(locked.PublicKey.Marshal()) {
			c.tried = []string{file + ", by the SSH agent"}
			return []ssh.Signer{key}, nil
		}
	}
	return nil, err
}

// largest bounds a file with a key or with keys of hosts, in bytes.
const largest = 16 << 20

// readKey reads a private key. If it needs a passphrase, the error wraps
// *ssh.PassphraseMissingError.
func readKey(file string) (ssh.Signer, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := untrusted.ReadAll(f, largest)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	key, err := ssh.ParsePrivateKey(data)
	if _, ok := errors.AsType[*ssh.PassphraseMissingError](err); ok {
		return nil, fmt.Errorf("%s needs a passphrase: add it to an SSH agent by ssh-add %[1]s: %w", file, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return key, nil
}
