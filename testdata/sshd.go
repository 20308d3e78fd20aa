package testdata

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// SSHD is an OpenSSH server on 127.0.0.1 into which the current user can log in, for SFTP.
// Of the machine's configuration it reads nothing.
type SSHD struct {
	User       string
	Port       int
	KeyFile    string // the private key of the user
	KnownHosts string // a file that knows the key of the server
	HostKey    string // the private key of the server; HostKey + ".pub" is the other

	t         testing.TB
	dir       string // its own files
	subsystem string
	more      string // lines of its configuration
	stop      func()
}

// NewSSHD starts a server for the time of the test. subsystem is the command for SFTP, such
// as "internal-sftp", with its options, more are lines of its configuration. Where sshd is
// not installed, NewSSHD does as Tool.
func NewSSHD(t testing.TB, subsystem string, more ...string) *SSHD {
	t.Helper()
	Tool(t, "sshd")
	s := &SSHD{
		t: t, dir: t.TempDir(), subsystem: subsystem, more: strings.Join(more, "\n"), stop: func() {},
		User: strings.TrimSpace(string(Run(t, "id", "-un"))),
	}
	s.KeyFile, s.KnownHosts = filepath.Join(s.dir, "user_key"), filepath.Join(s.dir, "known_hosts")
	Run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", s.KeyFile)
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // which it wants, and leaves empty
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { s.stop() })
	for range 3 { // another may take the port meanwhile
		s.Port = freePort(t)
		s.NewHostKey("ed25519")
		s.Know(s.Port)
		if s.start() {
			return s
		}
	}
	t.Fatalf("sshd does not start: %s", s.Log())
	return nil
}

// NewHostKey gives the server another key, which counts when it is started. The file of
// known hosts is not changed.
func (s *SSHD) NewHostKey(kind string) {
	s.t.Helper()
	s.HostKey = filepath.Join(s.t.TempDir(), "host_key")
	Run(s.t, "ssh-keygen", "-q", "-t", kind, "-N", "", "-f", s.HostKey)
}

// Know makes the key of the server known for a port, too: its own, or that of a proxy.
func (s *SSHD) Know(port int) {
	s.t.Helper()
	key, err := os.ReadFile(s.HostKey + ".pub")
	known, _ := os.ReadFile(s.KnownHosts)
	if err == nil {
		err = os.WriteFile(s.KnownHosts, fmt.Appendf(known, "[127.0.0.1]:%d %s", port, key), 0o666)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

const sshdConf = `ListenAddress 127.0.0.1:%d
HostKey %s
AuthorizedKeysFile %s.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
Subsystem sftp %s
%s
`

// start starts the server at its port, and reports whether it answers there.
func (s *SSHD) start() bool {
	s.t.Helper()
	config := filepath.Join(s.dir, "sshd_config")
	if err := os.WriteFile(config, fmt.Appendf(nil, sshdConf, s.Port, s.HostKey, s.KeyFile, s.subsystem, s.more), 0o666); err != nil {
		s.t.Fatal(err)
	}
	path, err := exec.LookPath("sshd") // it must be started by its full path
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, path, "-D", "-f", config, "-E", filepath.Join(s.dir, "log"))
	cmd.Cancel = func() error { return killWithChildren(cmd.Process.Pid) }
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} // should the test be killed
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { // ends with the server
		cmd.Wait()
		close(ended)
	}()
	s.stop = func() { cancel(); <-ended }
	for {
		select {
		case <-ended:
			return false
		case <-time.After(5 * time.Millisecond):
			if s.answers() {
				return true
			}
		}
	}
}

// answers reports whether an SSH server is at the port.
func (s *SSHD) answers() bool {
	conn, err := net.Dial("tcp", s.Address())
	if err != nil {
		return false
	}
	defer conn.Close()
	hello := make([]byte, 4)
	n, _ := conn.Read(hello)
	return string(hello[:n]) == "SSH-"
}

// Address returns the address that the server listens at.
func (s *SSHD) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)) }

// Stop kills the server with all of its sessions.
func (s *SSHD) Stop() { s.stop() }

// Start starts it again after Stop, at the same port.
func (s *SSHD) Start() {
	s.t.Helper()
	if !s.start() {
		s.t.Fatalf("sshd does not start: %s", s.Log())
	}
}

// Log returns what the server has logged.
func (s *SSHD) Log() string {
	text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return string(bytes.TrimSpace(text))
}

// killWithChildren kills a process and all that descend from it, the parents first.
func killWithChildren(pid int) error {
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	err := syscall.Kill(pid, syscall.SIGKILL)
	for child := range strings.FieldsSeq(string(children)) {
		if pid, err := strconv.Atoi(child); err == nil {
			killWithChildren(pid)
		}
	}
	return err
}
