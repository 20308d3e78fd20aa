package outfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/testdata"
)

// names returns what is in a directory.
func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

func TestWrite(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(dir string) error
		mode   fs.FileMode
		want   fs.FileMode
		names  string
	}{
		{"new", func(string) error { return nil }, 0, 0o644, "file"},
		{"new, with a mode", func(string) error { return nil }, 0o640, 0o640, "file"},
		{"replaced", func(dir string) error { return os.WriteFile(dir+"/file", []byte("old"), 0o600) }, 0, 0o600, "file"},
		{"replaced, with a mode", func(dir string) error { return os.WriteFile(dir+"/file", []byte("old"), 0o600) }, 0o644, 0o644, "file"},
		{"by a link", func(dir string) error {
			return errors.Join(os.WriteFile(dir+"/target", []byte("old"), 0o600), os.Symlink("target", dir+"/file"))
		}, 0, 0o600, "file target"},
		{"by a link to a link to nothing", func(dir string) error {
			return errors.Join(os.Symlink(dir+"/other", dir+"/file"), os.Symlink("target", dir+"/other"))
		}, 0, 0o644, "file other target"},
	} {
		dir := t.TempDir()
		if err := c.before(dir); err != nil {
			t.Fatal(err)
		}
		link, _ := os.Readlink(dir + "/file")
		if err := Write(dir+"/file", c.mode, []byte("new")); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		data, _ := os.ReadFile(dir + "/file")
		info, err := os.Stat(dir + "/file")
		if string(data) != "new" || err != nil || info.Mode() != c.want || names(t, dir) != c.names {
			t.Errorf("%s: %q, %v, %v, and there are %s", c.name, data, info, err, names(t, dir))
		}
		if now, _ := os.Readlink(dir + "/file"); now != link {
			t.Errorf("%s: the link leads to %q, not to %q", c.name, now, link)
		}
	}
}

// Whatever fails, what was there is there, and nothing else.
func TestFailures(t *testing.T) {
	var kinds []atomicfile.Kind
	for n := 0; n == 0 || n < len(kinds); n++ {
		dir := t.TempDir()
		os.WriteFile(dir+"/file", []byte("old"), 0o666)
		i := 0
		stop := atomicfile.Observe(dir, func(c atomicfile.Change) error {
			if n == 0 {
				kinds = append(kinds, c.Kind)
			}
			if i++; i == n {
				return syscall.ENOSPC
			}
			return nil
		})
		err := Write(dir+"/file", 0, []byte("new"))
		stop()
		if (err == nil) != (n == 0) || n > 0 && !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("change %d: %v", n, err)
		}
		want := "old"
		if n == 0 {
			want = "new"
		}
		if data, _ := os.ReadFile(dir + "/file"); string(data) != want || names(t, dir) != "file" {
			t.Errorf("change %d fails: %q, and there are %s", n, data, names(t, dir))
		}
	}
	want := []atomicfile.Kind{atomicfile.Create, atomicfile.Write, atomicfile.Flush, atomicfile.Rename, atomicfile.FlushDir}
	if !slices.Equal(kinds, want) {
		t.Errorf("changes %v, want %v", kinds, want)
	}
}

func TestNoRegularFile(t *testing.T) {
	dir := t.TempDir()
	if err := Write(dir, 0, nil); err == nil {
		t.Error("a directory is written")
	}
	if err := Write(dir+"/none/file", 0, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in no directory: %v", err)
	}
	os.Symlink("loop", dir+"/loop")
	if err := Write(dir+"/loop", 0, nil); err == nil {
		t.Error("a link to itself is written")
	}
	if err := Write(os.DevNull, 0o600, []byte("text")); err != nil {
		t.Errorf("/dev/null: %v", err)
	}
	if info, err := os.Stat(os.DevNull); err != nil || info.Mode().IsRegular() || info.Mode().Perm() != 0o666 {
		t.Fatalf("/dev/null is %v now, %v", info, err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o666); err != nil {
		t.Fatal(err)
	}
	read := make(chan string)
	go func() { // it ends with the writer
		data, _ := os.ReadFile(pipe)
		read <- string(data)
	}()
	if err := Write(pipe, 0, []byte("text")); err != nil {
		t.Error(err)
	}
	if got := <-read; got != "text" {
		t.Errorf("the pipe brought %q", got)
	}
}

func TestFullDisk(t *testing.T) {
	dir := testdata.SmallDisk(t, 64<<10)
	if err := Write(dir+"/file", 0, []byte("old")); err != nil {
		t.Fatal(err)
	}
	f, err := Create(dir+"/file", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, strings.NewReader(strings.Repeat("x", 1<<20))); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("1 MiB on a disk of 64 KiB: %v", err)
	}
	f.Discard()
	if data, _ := os.ReadFile(dir + "/file"); string(data) != "old" || names(t, dir) != "file" {
		t.Errorf("%q, and there are %s", data, names(t, dir))
	}
}

// What a link in a linked directory leads to is what the system says.
func TestLinkInLinkedDirectory(t *testing.T) {
	dir := t.TempDir()
	err := errors.Join(os.MkdirAll(dir+"/a/b", 0o777), os.Symlink("a/b", dir+"/linked"), os.Symlink("../target", dir+"/a/b/out"),
		os.WriteFile(dir+"/a/target", []byte("old"), 0o666), Write(dir+"/linked/out", 0, []byte("new")))
	if data, _ := os.ReadFile(dir + "/a/target"); err != nil || string(data) != "new" || names(t, dir) != "a linked" {
		t.Errorf("%q, %v, and there are %s", data, err, names(t, dir))
	}
}
