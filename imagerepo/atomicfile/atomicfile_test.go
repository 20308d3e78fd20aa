package atomicfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"puavo-image-repository/testdata"
)

func open(t *testing.T, dir string) Dir {
	t.Helper()
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// names returns the names in the root, so that nothing left behind is missed.
func names(t *testing.T, root Dir) string {
	t.Helper()
	var all []string
	err := fs.WalkDir(root.FS(), ".", func(p string, d fs.DirEntry, err error) error {
		if !d.IsDir() {
			all = append(all, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

func TestCommitAndDiscard(t *testing.T) {
	root := open(t, t.TempDir())
	for _, c := range []struct {
		name   string
		finish func(*File) error
		want   string // content of the file after it
	}{
		{"discarded", func(f *File) error { f.Discard(); f.Discard(); return nil }, ""},
		{"committed", func(f *File) error { return f.Commit() }, "committed"},
		{"discarded again", func(f *File) error { f.Discard(); return nil }, "committed"},
		{"committed and discarded", func(f *File) error { err := f.Commit(); f.Discard(); return err }, "committed and discarded"},
	} {
		if err := os.WriteFile(filepath.Join(root.Name(), "tmp"), []byte("left by a dead run, longer than what follows"), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := root.Begin("tmp", "file")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, c.name); err != nil {
			t.Fatal(err)
		}
		if b, _ := root.ReadFile("file", 1<<10); string(b) == c.name {
			t.Errorf("%s: the file is there before it was committed", c.name)
		}
		if err := c.finish(f); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if b, _ := root.ReadFile("file", 1<<10); string(b) != c.want {
			t.Errorf("%s: file holds %q, want %q", c.name, b, c.want)
		}
		if got := names(t, root); got != "file" && c.want != "" {
			t.Errorf("%s: left are %s", c.name, got)
		}
		if err := f.Commit(); err == nil {
			t.Errorf("%s: a second Commit succeeds", c.name)
		}
	}
}

func TestFailures(t *testing.T) {
	root := open(t, t.TempDir())
	if err := root.MkdirAll("dir/full", 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := root.Begin("none/tmp", "file"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in no directory: %v", err)
	}
	if _, err := root.Begin("../tmp", "file"); err == nil {
		t.Error("a temporary name leads out of the root")
	}
	for name, want := range map[string]string{"dir": "is a directory", "none/file": "no such", "../out": "escapes"} {
		f, err := root.Begin("tmp", name)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Commit(); err == nil || !strings.Contains(err.Error(), want) && !strings.Contains(err.Error(), "exists") {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
		if got := names(t, root); got != "" {
			t.Errorf("%s: left are %s", name, got)
		}
	}
}

func TestReplace(t *testing.T) {
	root := open(t, t.TempDir())
	for i, c := range []struct {
		data    string
		written bool
	}{{"one", true}, {"one", false}, {"two", true}, {"", true}, {"", false}} {
		written, err := root.Replace("tmp", "file", []byte(c.data))
		if err != nil || written != c.written {
			t.Errorf("%d: written %v, %v", i, written, err)
		}
		if b, err := root.ReadFile("file", 1<<10); err != nil || string(b) != c.data {
			t.Errorf("%d: file holds %q, %v", i, b, err)
		}
	}
}

// On a full disk the old file stays and nothing is left.
func TestFullDisk(t *testing.T) {
	dir := testdata.SmallDisk(t, 64<<10)
	root := open(t, dir)
	if _, err := root.Replace("tmp", "file", []byte("old")); err != nil {
		t.Fatal(err)
	}
	if _, err := root.Replace("tmp", "file", make([]byte, 1<<20)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("1 MiB on a disk of 64 KiB: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(b) != "old" {
		t.Errorf("file holds %d bytes, %v", len(b), err)
	}
	if got := names(t, root); got != "file" {
		t.Errorf("left are %s", got)
	}
}
