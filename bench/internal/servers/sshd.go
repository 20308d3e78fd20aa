package servers

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
)

// Cipher is what all clients of an SSHD encrypt with.
const Cipher = "aes128-gcm@openssh.com"

// SSHD is an OpenSSH server into which the current user can log in with a key, by SFTP and
// to run commands.
type SSHD struct {
	*process
	User       string
	KeyFile    string // the private key of the user
	KnownHosts string // a file that knows the key of the server
	Config     string // a file for ssh -F, in which the host is called bench

	hostKey string
}

// StartSSHD starts a server until Stop is called or ctx ends. The directory, an absolute
// path, must not exist; the server's own files are put into it, and left there. Commands
// that it needs: sshd, ssh-keygen.
func StartSSHD(ctx context.Context, dir string) (*SSHD, error) {
	current, err := user.Current()
	if err != nil {
		return nil, err
	}
	s := &SSHD{
		User: current.Username, KeyFile: filepath.Join(dir, "user_key"), KnownHosts: filepath.Join(dir, "known_hosts"),
		Config: filepath.Join(dir, "ssh_config"), hostKey: filepath.Join(dir, "host_key"),
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	for _, key := range []string{s.KeyFile, s.hostKey} {
		if out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("ssh-keygen: %w: %s", err, out)
		}
	}
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // which it wants, and leaves empty
			return nil, err
		}
	}
	path, err := exec.LookPath("sshd") // it must be started by its full path
	if err != nil {
		return nil, err
	}
	s.process, err = start(ctx, filepath.Join(dir, "log"), func(ctx context.Context, port int) *exec.Cmd {
		return exec.CommandContext(ctx, path, append([]string{"-D", "-e", "-f", "/dev/null"}, s.options(port)...)...)
	}, greets)
	return s, err
}

// options are the server's configuration, as arguments.
func (s *SSHD) options(port int) (args []string) {
	for _, option := range []string{
		fmt.Sprintf("ListenAddress=127.0.0.1:%d", port), "HostKey=" + s.hostKey, "AuthorizedKeysFile=" + s.KeyFile + ".pub",
		"Ciphers=" + Cipher, "Subsystem=sftp internal-sftp", "PidFile=none", "StrictModes=no", "UsePAM=no",
		"PasswordAuthentication=no", "KbdInteractiveAuthentication=no", "PermitRootLogin=prohibit-password", "MaxStartups=100",
	} {
		args = append(args, "-o", option)
	}
	return args
}

// greets reports whether an SSH server is at the other end.
func greets(conn net.Conn) bool {
	hello := make([]byte, 4)
	_, err := io.ReadFull(conn, hello)
	return err == nil && string(hello) == "SSH-"
}

const sshConfig = `Host bench
HostName 127.0.0.1
Port %d
User %s
IdentityFile "%s"
IdentitiesOnly yes
UserKnownHostsFile "%s"
GlobalKnownHostsFile /dev/null
BatchMode yes
`

// Through writes the files that clients log in with, by this port of 127.0.0.1.
func (s *SSHD) Through(port int) error {
	key, err := os.ReadFile(s.hostKey + ".pub")
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.KnownHosts, fmt.Appendf(nil, "[127.0.0.1]:%d %s", port, key), 0o666); err != nil {
		return err
	}
	return os.WriteFile(s.Config, fmt.Appendf(nil, sshConfig, port, s.User, s.KeyFile, s.KnownHosts), 0o666)
}
