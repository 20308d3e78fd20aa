package outfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"puavo-image-repository/testdata"
)

// oldFile makes a file with the mode 0640 in a new directory and returns the paths of
// both.
func oldFile(t *testing.T) (dir, file string) {
	t.Helper()
	dir = t.TempDir()
	if err := errors.Join(os.WriteFile(dir+"/file", []byte("the old content"), 0o600), os.Chmod(dir+"/file", 0o640)); err != nil {
		t.Fatal(err)
	}
	return dir, dir + "/file"
}

// A file that cannot be replaced, or has other names, is written where it stands.
func TestInPlace(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T, dir, file string) error
		path    string // in the directory; "" is the file's
		mode    fs.FileMode
		want    fs.FileMode
	}{
		{"a hard link", func(_ *testing.T, dir, file string) error { return os.Link(file, dir+"/other") }, "", 0, 0o640},
		{"a hard link, with a mode", func(_ *testing.T, dir, file string) error { return os.Link(file, dir+"/other") }, "", 0o604, 0o604},
		{"a symbolic link to a hard link", func(_ *testing.T, dir, file string) error {
			return errors.Join(os.Link(file, dir+"/other"), os.Symlink("file", dir+"/link"))
		}, "link", 0, 0o640},
		{"a mount point", mounted, "", 0, 0o640},
		{"an open file", func(t *testing.T, dir, file string) error {
			f, err := os.OpenFile(file, os.O_RDWR, 0)
			t.Cleanup(func() { f.Close() })
			return errors.Join(err, os.Symlink(fmt.Sprintf("/dev/fd/%d", f.Fd()), dir+"/link"))
		}, "link", 0, 0o640},
		{"in a directory that is not writable", func(_ *testing.T, dir, _ string) error { return os.Chmod(dir, 0o555) }, "", 0, 0o640},
		{"in a directory that is not readable", func(_ *testing.T, dir, _ string) error { return os.Chmod(dir, 0o311) }, "", 0, 0o640},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, file := oldFile(t)
			if err := c.prepare(t, dir, file); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.Chmod(dir, 0o755) })
			before, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			path := file
			if c.path != "" {
				path = filepath.Join(dir, c.path)
			}
			testdata.Unprivileged(t, dir, func() { err = Write(path, c.mode, []byte("new")) })
			data, _ := os.ReadFile(file)
			after, statErr := os.Stat(file)
			if err = errors.Join(err, statErr); err != nil || string(data) != "new" || !os.SameFile(before, after) || after.Mode() != c.want {
				t.Errorf("%v, %q, mode %v, or in another file", err, data, after.Mode())
			}
		})
	}
}

// mounted makes the file a mount point. It skips the test where that is not allowed;
// where CI is set, it fails instead.
func mounted(t *testing.T, _, file string) error {
	if err := syscall.Mount(file, file, "", syscall.MS_BIND, ""); err != nil {
		if os.Getenv("CI") == "" {
			t.Skip(err)
		}
		return err
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(file, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return nil
}

// What is written in place keeps its content until the first write, and is then never
// a mixture of new and old.
func TestInPlaceDiscarded(t *testing.T) {
	dir, file := oldFile(t)
	if err := os.Link(file, dir+"/other"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ write, want string }{{"", "the old content"}, {"new", "new"}} {
		f, err := Create(file, 0)
		if err != nil {
			t.Fatal(err)
		}
		if c.write != "" {
			f.Write([]byte(c.write))
		}
		f.Discard()
		if data, _ := os.ReadFile(file); string(data) != c.want {
			t.Errorf("%q after %q was written and discarded, want %q", data, c.write, c.want)
		}
	}
	f, err := Create(file, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(file); err != nil || len(data) != 0 {
		t.Errorf("%q, %v, want nothing", data, err)
	}
}

// Replace leaves what it replaces as it is, for those who read it.
func TestReplace(t *testing.T) {
	dir, file := oldFile(t)
	if err := os.Link(file, dir+"/other"); err != nil {
		t.Fatal(err)
	}
	f, err := Replace(file, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Discard()
	if _, err := f.Write([]byte("new")); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	data, _ := os.ReadFile(file)
	if other, _ := os.ReadFile(dir + "/other"); string(data) != "new" || string(other) != "the old content" {
		t.Errorf("%q, and %q as the other", data, other)
	}
	testdata.Unprivileged(t, dir, func() {
		os.Chmod(dir, 0o555)
		_, err = Replace(dir+"/other", 0)
	})
	if !errors.Is(err, fs.ErrPermission) {
		t.Errorf("in a directory that is not writable: %v", err)
	}
}

// What replaces a file has its owner.
func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may give files away")
	}
	_, file := oldFile(t)
	if err := errors.Join(os.Chown(file, testdata.Nobody, testdata.Nobody), Write(file, 0, []byte("new"))); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if s := info.Sys().(*syscall.Stat_t); err != nil || s.Uid != testdata.Nobody || s.Gid != testdata.Nobody || info.Mode() != 0o640 {
		t.Errorf("owner %d:%d, mode %v, %v", s.Uid, s.Gid, info.Mode(), err)
	}
}

// A name may be as long as the file system allows.
func TestLongNames(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{strings.Repeat("x", 240), strings.Repeat("x", 250), strings.Repeat("x", 255), strings.Repeat("ä", 127), "x" + strings.Repeat("ä", 127)} {
		if err := Write(filepath.Join(dir, name), 0, []byte("new")); err != nil {
			t.Errorf("%d bytes: %v", len(name), err)
		}
		tmp, other := temporary(name), temporary(name[:len(name)-2]+"yz")
		if len(tmp) > 255 || !utf8.ValidString(tmp) || tmp == other || !strings.HasPrefix(tmp, "."+name[:200]) {
			t.Errorf("%d bytes: temporary name %s", len(name), tmp)
		}
	}
	if strings.Contains(names(t, dir), ".tmp") {
		t.Errorf("there are %s", names(t, dir))
	}
}

// Errors name the file that was asked for.
func TestErrorsNameTheFile(t *testing.T) {
	dir, file := oldFile(t)
	locked := filepath.Join(dir, "locked")
	small := testdata.SmallDisk(t, 64<<10)
	if err := os.Mkdir(locked, 0o555); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		size int
		want error
	}{
		{"", 1, fs.ErrNotExist},
		{dir + "/none/file", 1, fs.ErrNotExist},
		{file + "/file", 1, syscall.ENOTDIR},
		{locked + "/file", 1, fs.ErrPermission},
		{dir + "/" + strings.Repeat("x", 256), 1, syscall.ENAMETOOLONG},
		{small + "/file", 1 << 20, syscall.ENOSPC},
	} {
		var err error
		testdata.Unprivileged(t, dir, func() { err = Write(c.path, 0, make([]byte, c.size)) })
		if want := (&fs.PathError{Op: "write", Path: c.path, Err: errors.Unwrap(err)}).Error(); !errors.Is(err, c.want) || err.Error() != want {
			t.Errorf("%v, want %s with %v", err, want, c.want)
		}
	}
	if got := names(t, dir) + names(t, small); got != "file locked" {
		t.Errorf("there are %s", got)
	}
	if _, err := Create("", 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no name: %v", err)
	}
}

// An error of Commit names the file.
func TestCommitNamesTheFile(t *testing.T) {
	dir := t.TempDir()
	f, err := Create(dir+"/file", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Discard()
	if err := os.MkdirAll(dir+"/file/full", 0o777); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(); err == nil || strings.Contains(err.Error(), ".tmp") || !strings.Contains(err.Error(), dir+"/file: ") {
		t.Errorf("%v, want it to name the file", err)
	}
}
