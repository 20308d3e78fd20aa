package servers

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/testdata"
)

// Clients log in through a proxy, with the cipher.
func TestSSHD(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"sshd", "ssh-keygen", "ssh"} {
		testdata.Tool(t, tool)
	}
	s, err := StartSSHD(t.Context(), filepath.Join(t.TempDir(), "sshd"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	p := proxied(t, s.Address())
	if err := s.Through(p.Port); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "ssh", "-v", "-F", s.Config, "bench", "echo hello").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "\nhello\n") || strings.Count(string(out), "cipher: "+Cipher) != 2 {
		t.Errorf("%v\n%s", err, out)
	}
	if sent, err := p.Sent(t.Context()); err != nil || sent < 1000 {
		t.Errorf("%d bytes, %v", sent, err)
	}
}

// A bucket is a directory, and is removed with what the server knows of it.
func TestS3(t *testing.T) {
	t.Parallel()
	testdata.Tool(t, "versitygw")
	dir := filepath.Join(t.TempDir(), "s3")
	s, err := StartS3(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{s.Bucket("one"), s.metadata("one"), s.Bucket("other")} {
		if err := os.MkdirAll(filepath.Join(d, "folder"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Remove("one"); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*", "*")); len(left) != 1 || left[0] != s.Bucket("other") {
		t.Errorf("left: %q", left)
	}
	s.Stop()
	if conn, err := net.Dial("tcp", s.Address()); err == nil {
		conn.Close()
		t.Error("it runs after Stop")
	}
	s.Stop() // twice does no harm
}

func TestStartErrors(t *testing.T) {
	for _, tool := range []string{"sshd", "ssh-keygen", "versitygw"} {
		testdata.Tool(t, tool)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	starts := map[string]func(context.Context, string) error{
		"sshd": func(ctx context.Context, dir string) error { _, err := StartSSHD(ctx, dir); return err },
		"s3":   func(ctx context.Context, dir string) error { _, err := StartS3(ctx, dir); return err },
		"no server": func(ctx context.Context, dir string) error {
			_, err := start(ctx, dir, func(ctx context.Context, _ int) *exec.Cmd {
				return exec.CommandContext(ctx, "sh", "-c", "echo it is broken; exit 1")
			}, greets)
			return err
		},
		"another server": func(ctx context.Context, dir string) error {
			_, err := startOnce(ctx, dir, func(ctx context.Context, _ int) *exec.Cmd {
				return exec.CommandContext(ctx, "sh", "-c", "sleep 0.1; echo it is broken")
			}, func(net.Conn) bool { return false })
			return err
		},
	}
	for _, c := range []struct {
		name, start string
		ctx         context.Context
		dir         string
		want        string
	}{
		{"a directory that exists", "sshd", t.Context(), t.TempDir(), "file exists"},
		{"a directory that exists", "s3", t.Context(), t.TempDir(), "file exists"},
		{"cancelled", "sshd", cancelled, filepath.Join(t.TempDir(), "new"), "context canceled"},
		{"cancelled", "s3", cancelled, filepath.Join(t.TempDir(), "new"), "context canceled"},
		{"a server that ends", "no server", t.Context(), filepath.Join(t.TempDir(), "log"), "it has ended: it is broken"},
		{"a server that does not answer as it should", "another server", t.Context(), filepath.Join(t.TempDir(), "log"), "it has ended: it is broken"},
		{"no file for the log", "no server", t.Context(), filepath.Join(t.TempDir(), "no", "log"), "no such file"},
	} {
		if err := starts[c.start](c.ctx, c.dir); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %s: %v", c.start, c.name, err)
		}
	}
}
