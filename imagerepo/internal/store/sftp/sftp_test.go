package sftp

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/internal/store"
	"puavo-image-repository/imagerepo/internal/store/storetest"
	"puavo-image-repository/testdata"
)

// quick does not keep tests waiting.
var quick = clock{connect: 20 * time.Second, ask: 100 * time.Millisecond, silence: 20 * time.Second, retry: 10 * time.Millisecond}

// options are those to log in to a server, and publish to path.
func options(s *testdata.SSHD, path string) Options {
	return Options{User: s.User, Host: "127.0.0.1", Port: s.Port, Path: path, KnownHosts: s.KnownHosts, KeyFile: s.KeyFile}
}

// opened returns a store that is closed when the test ends.
func opened(t *testing.T, o Options) *Store { return openedBy(t, o, quick) }

func openedBy(t *testing.T, o Options, by clock) *Store {
	t.Helper()
	s, err := open(t.Context(), o, by)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// ok fails the test for an error.
func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const sftpServer = "/usr/lib/openssh/sftp-server"

func TestStore(t *testing.T) {
	t.Parallel()
	commands := []string{"internal-sftp", sftpServer, sftpServer + " -P hardlink,fsync,statvfs"}
	if testing.Short() {
		commands = commands[:1]
	}
	for _, command := range commands {
		t.Run(filepath.Base(command), func(t *testing.T) {
			server := testdata.NewSSHD(t, command)
			storetest.Test(t, func(t *testing.T) store.Store { return opened(t, options(server, t.TempDir()+"/new/folder")) })
		})
	}
}

func TestFolder(t *testing.T) {
	t.Parallel()
	server := testdata.NewSSHD(t, "internal-sftp")
	storetest.TestFolder(t, func(t *testing.T, root string) store.Store { return opened(t, options(server, root)) })
}

// A web server can read what is published, whatever the umask, and not what is aside.
func TestModes(t *testing.T) {
	t.Parallel()
	for _, umask := range []string{"0077", "0000"} {
		server := testdata.NewSSHD(t, "internal-sftp -u "+umask)
		root := t.TempDir() + "/new"
		s := opened(t, options(server, root))
		c := storetest.NewContent(t, "images/a.img", 10)
		ok(t, errors.Join(
			s.Write(t.Context(), "meta/a/b.json", nil), s.Create(t.Context(), ".publish-lock.json", nil),
			s.Stage(t.Context(), c.Content), s.Release(t.Context(), c.Content),
		))
		for name, want := range map[string]fs.FileMode{
			".": 0o755, "meta": 0o755, "meta/a": 0o755, "images": 0o755, store.Aside: 0o700,
			"meta/a/b.json": 0o644, ".publish-lock.json": 0o644, "images/a.img": 0o644,
		} {
			info, err := os.Stat(filepath.Join(root, name))
			if err != nil || info.Mode().Perm() != want {
				t.Errorf("umask %s: %s has mode %v, want %v, %v", umask, name, info.Mode(), want, err)
			}
		}
		if left, _ := os.ReadDir(filepath.Join(root, store.Aside)); len(left) > 0 {
			t.Errorf("left are %v", left)
		}
	}
}

// A server that cannot replace a file as a whole is refused.
func TestMissingExtension(t *testing.T) {
	t.Parallel()
	server := testdata.NewSSHD(t, sftpServer+" -P posix-rename")
	s, err := open(t.Context(), options(server, t.TempDir()), quick)
	if err == nil {
		s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "posix-rename@openssh.com") {
		t.Error(err)
	}
	server = testdata.NewSSHD(t, "/bin/false")
	if _, err := open(t.Context(), options(server, t.TempDir()), quick); err == nil || !strings.Contains(err.Error(), "SFTP") {
		t.Errorf("of a server without SFTP: %v", err)
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		name, user string // of the environment
		o          Options
		want       string // the URL, or a part of the error
	}{
		{"all", "", Options{User: "ann", Host: "example.org", Port: 2222, Path: "/srv/images"}, "sftp://ann@example.org:2222/srv/images"},
		{"the usual port", "", Options{User: "ann", Host: "example.org", Port: 22, Path: "/srv"}, "sftp://ann@example.org/srv"},
		{"an address", "", Options{User: "ann", Host: "::1", Port: 2222, Path: "/"}, "sftp://ann@[::1]:2222/"},
		{"the current user", "bob", Options{Host: "example.org", Path: "/srv"}, "sftp://bob@example.org/srv"},
		{"no user", "", Options{Host: "example.org", Path: "/srv"}, "no user"},
		{"no host", "bob", Options{Path: "/srv"}, "no host"},
		{"a relative path", "bob", Options{Host: "example.org", Path: "srv"}, "whole path"},
		{"no path", "bob", Options{Host: "example.org"}, "whole path"},
		{"a path with dots", "bob", Options{Host: "example.org", Path: "/srv/../etc"}, "whole path"},
		{"a home", "bob", Options{Host: "example.org", Path: "/~/images"}, "whole path"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("USER", "")
			t.Setenv("LOGNAME", c.user)
			var got string
			if err := c.o.complete(); err != nil {
				got = err.Error()
			} else {
				got = (&Store{o: c.o}).String()
			}
			if got != c.want && (strings.HasPrefix(c.want, "sftp:") || !strings.Contains(got, c.want)) {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}
