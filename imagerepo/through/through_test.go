package through

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"puavo-image-repository/testdata"
)

// inDir makes the function of a path in a directory that was just made.
func inDir(t *testing.T, prepare func(dir string) error) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err == nil {
		err = prepare(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// A regular file, what does not exist, and what links lead to are for the caller to
// replace, by a path that is no link.
func TestReplace(t *testing.T) {
	file := func(dir string) error { return os.WriteFile(filepath.Join(dir, "file"), []byte("old"), 0o666) }
	link := func(target, name string) func(dir string) error {
		return func(dir string) error {
			return os.Symlink(strings.ReplaceAll(target, "DIR", dir), filepath.Join(dir, name))
		}
	}
	all := func(steps ...func(dir string) error) func(dir string) error {
		return func(dir string) (err error) {
			for _, step := range steps {
				err = errors.Join(err, step(dir))
			}
			return err
		}
	}
	sub := func(dir string) error { return os.MkdirAll(filepath.Join(dir, "sub/sub"), 0o777) }
	for _, c := range []struct {
		name    string
		prepare func(dir string) error
		path    string
		want    string
	}{
		{"a file", file, "file", "file"},
		{"nothing", all(), "file", "file"},
		{"a link", all(file, link("file", "link")), "link", "file"},
		{"a link with an absolute path", all(file, link("DIR/file", "link")), "link", "file"},
		{"a link to a link to nothing", all(link("b", "link"), link("none", "b")), "link", "none"},
		{"a link into a directory", all(sub, link("sub/none", "link")), "link", "sub/none"},
		{"a link in a directory that is one", all(sub, link("sub/sub", "d"), link("../none", "sub/sub/link")), "d/link", "sub/none"},
	} {
		dir := inDir(t, c.prepare)
		t.Chdir(dir)
		for _, path := range []string{c.path, filepath.Join(dir, c.path)} {
			var got string
			err := Write(path, []byte("new"), func(file string) error { got = file; return fs.ErrPermission })
			if want := filepath.Join(dir, c.want); got != want && filepath.Join(dir, got) != want || !errors.Is(err, fs.ErrPermission) {
				t.Errorf("%s: replaced is %q, %v, want %s", c.name, got, err, want)
			}
		}
	}
}

// What cannot be written to is an error that says why, and nothing waits.
func TestRefused(t *testing.T) {
	for _, kind := range testdata.OddFiles(t) {
		says, ok := map[string]string{
			"a pipe":           "no process reads from this pipe; start the one that does first",
			"a socket":         "no such device or address",
			"a directory":      "is a directory",
			"a link to itself": "too many levels of symbolic links",
		}[kind.Name]
		if !ok {
			continue
		}
		dir := inDir(t, func(dir string) error { return kind.Make(filepath.Join(dir, "odd")) })
		testdata.Promptly(t, kind.Name, func() {
			err := Write(filepath.Join(dir, "odd"), []byte("new"), func(string) error { t.Errorf("%s is replaced", kind.Name); return nil })
			if err == nil || !strings.Contains(err.Error(), "/odd: "+says) {
				t.Errorf("%s: %v, want %s", kind.Name, err, says)
			}
		})
	}
}

// A pipe gets all of what is written at once. Once it is full it is not waited at for long.
func TestPipe(t *testing.T) {
	dir := inDir(t, func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o666) })
	path := filepath.Join(dir, "pipe")
	r, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range 2 {
		if err := Write(path, []byte("new"), nil); err != nil {
			t.Error(err)
		}
	}
	got := make([]byte, 100)
	if n, err := r.Read(got); string(got[:n]) != "newnew" || err != nil {
		t.Errorf("read %q, %v", got[:n], err)
	}
	testdata.Promptly(t, "a full pipe", func() {
		if err := Write(path, make([]byte, 1<<20), nil); !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "pipe: ") {
			t.Errorf("a full pipe: %v", err)
		}
	})
}

// A device stays one, also at the end of a link.
func TestDevice(t *testing.T) {
	for _, kind := range testdata.OddFiles(t) {
		if kind.Name != "a device" && kind.Name != "a link out of its directory" { // to /dev/null
			continue
		}
		dir := inDir(t, func(dir string) error { return kind.Make(filepath.Join(dir, "odd")) })
		path := filepath.Join(dir, "odd")
		if err := Write(path, []byte("new"), nil); err != nil {
			t.Errorf("%s: %v", kind.Name, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode()&fs.ModeCharDevice == 0 {
			t.Errorf("%s is %v, %v", kind.Name, info, err)
		}
	}
}

// An open file of the process, such as standard output, is written to at its end, whether
// it has a name still or not.
func TestOpenFile(t *testing.T) {
	dir := inDir(t, func(dir string) error { return os.WriteFile(filepath.Join(dir, "file"), []byte("old"), 0o666) })
	f, err := os.OpenFile(filepath.Join(dir, "file"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	path := fmt.Sprintf("/dev/fd/%d", f.Fd())
	if err := os.Symlink(path, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for i, path := range []string{path, filepath.Join(dir, "link")} {
		if err := Write(path, []byte("new"), nil); err != nil {
			t.Error(err)
		}
		if err := os.Remove(filepath.Join(dir, "file")); (err != nil) != (i > 0) {
			t.Error(err)
		}
	}
	got := make([]byte, 100)
	if n, _ := f.ReadAt(got, 0); string(got[:n]) != "oldnewnew" {
		t.Errorf("it holds %q", got[:n])
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left are %v, %v", entries, err)
	}
	if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0); err != nil || flags&unix.O_APPEND != 0 {
		t.Errorf("it has the flags %#x, %v", flags, err)
	}
}
