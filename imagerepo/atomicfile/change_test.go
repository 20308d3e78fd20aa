package atomicfile

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// recorded returns the changes that do makes to a new directory, one a line.
func recorded(t *testing.T, do func(d Dir) error) string {
	t.Helper()
	path := t.TempDir()
	for _, name := range []string{"old", "sub/old"} {
		os.MkdirAll(filepath.Dir(filepath.Join(path, name)), 0o777)
		if err := os.WriteFile(filepath.Join(path, name), []byte("old"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	var all []string
	stop := Observe(path, func(c Change) error {
		if c.Dir != path {
			t.Errorf("a change to %s, want %s", c.Dir, path)
		}
		all = append(all, c.String())
		return nil
	})
	defer stop()
	if err := do(open(t, path)); err != nil {
		t.Error(err)
	}
	return strings.ReplaceAll(strings.Join(all, "\n"), path, "DIR")
}

// Whatever is written is flushed before it gets its name, and the directory after
// that.
func TestOrder(t *testing.T) {
	write := func(d Dir, tmp, name string) error {
		_, err := d.Replace(tmp, name, []byte("new"))
		return err
	}
	for _, c := range []struct {
		name string
		do   func(d Dir) error
		want []string
	}{
		{"new", func(d Dir) error { return write(d, "tmp", "file") },
			[]string{"create tmp", "write tmp", "flush tmp", "rename tmp to file", "flush dir ."}},
		{"in a directory", func(d Dir) error { return write(d, "tmp", "sub/old") },
			[]string{"create tmp", "write tmp", "flush tmp", "rename tmp to sub/old", "flush dir sub"}},
		{"left by a dead run", func(d Dir) error { return write(d, "old", "file") },
			[]string{"remove old", "create old", "write old", "flush old", "rename old to file", "flush dir ."}},
		{"without flushes", func(d Dir) error { d.NoSync = true; return write(d, "tmp", "file") },
			[]string{"create tmp", "write tmp", "rename tmp to file"}},
		{"as it is", func(d Dir) error { _, err := d.Replace("tmp", "old", []byte("old")); return err }, nil},
		{"as it is, flushed again", func(d Dir) error {
			d.Reflush = true
			_, err := d.Replace("tmp", "sub/old", []byte("old"))
			return err
		}, []string{"flush sub/old", "flush dir sub"}},
		{"discarded", func(d Dir) error {
			f, err := d.Begin("tmp", "file")
			if err == nil {
				f.Discard()
				f.Discard()
			}
			return err
		}, []string{"create tmp", "remove tmp"}},
		{"kept and gone on with", func(d Dir) error {
			f, err := d.Resume("old", "file", 2)
			if err != nil {
				return err
			}
			text, _ := io.ReadAll(f)
			_, err = f.Write(text)
			err = errors.Join(err, f.Sync(), f.Keep())
			f.Discard()
			if data, _ := d.ReadFile("old", 1<<10); string(data) != "olol" {
				t.Errorf("the file holds %q", data)
			}
			return err
		}, []string{"write old", "write old", "flush old"}},
		{"kept and cut", func(d Dir) error {
			f, err := d.Resume("old", "file", 3)
			if err != nil {
				return err
			}
			err = f.Truncate(1)
			_, second := f.Write([]byte("K"))
			err = errors.Join(err, second, f.Keep())
			if data, _ := d.ReadFile("old", 1<<10); string(data) != "oK" {
				t.Errorf("the file holds %q", data)
			}
			return err
		}, []string{"write old", "write old", "write old"}},
		{"a name that is free, and one that is not", func(d Dir) error {
			err := errors.Join(d.RenameNew("old", "sub/new"), d.Link("sub/new", "old"))
			if err := d.RenameNew("old", "sub/old"); !errors.Is(err, fs.ErrExist) {
				t.Errorf("a name that is not free: %v", err)
			}
			if data, _ := d.ReadFile("sub/old", 1<<10); string(data) != "old" || names(t, d) != "old sub/new sub/old" {
				t.Errorf("there are %s, one with %q", names(t, d), data)
			}
			return err
		}, []string{"rename old to sub/new", "link sub/new to old", "rename old to sub/old"}},
		{"links and names", func(d Dir) error {
			return errors.Join(d.Link("old", "a"), d.LinkFrom(filepath.Join(d.Name(), "old"), "b"), d.Rename("a", "c"),
				d.Remove("c"), d.RemoveAll("sub"), d.MkdirAll("sub/sub", 0o777), d.MkdirAll("sub", 0o777), d.Mkdir("m", 0o777))
		}, []string{"link old to a", "link from DIR/old to b", "rename a to c", "remove c", "remove sub", "mkdir sub/sub", "mkdir m"}},
		{"of a directory within", func(d Dir) error {
			sub, err := d.Sub("sub")
			if err != nil {
				return err
			}
			defer sub.Close()
			sub.observe = func(c Change) error { return d.observe(Change{Kind: c.Kind, Dir: d.Name(), Name: "sub/" + c.Name}) }
			return sub.Sync("old")
		}, []string{"flush sub/old"}},
	} {
		if got, want := recorded(t, c.do), strings.Join(c.want, "\n"); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", c.name, got, want)
		}
	}
}

// A change that fails is not made: what had the name has it still, nothing new has
// one, and what failed is the error.
func TestEachChangeFails(t *testing.T) {
	for n := range 5 {
		path := t.TempDir()
		os.WriteFile(filepath.Join(path, "file"), []byte("old"), 0o666)
		var seen []Kind
		stop := Observe(path, func(c Change) error {
			if seen = append(seen, c.Kind); len(seen) == n+1 {
				return syscall.EIO
			}
			return nil
		})
		d := open(t, path)
		_, err := d.Replace("tmp", "file", []byte("new"))
		stop()
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("%v: %v", seen, err)
		}
		want := "old"
		if seen[n] == FlushDir { // it may or may not have lasted
			want = "new"
		}
		if data, _ := d.ReadFile("file", 1<<10); string(data) != want || names(t, d) != "file" {
			t.Errorf("%v: the file holds %q, and there are %s", seen, data, names(t, d))
		}
	}
}

// Those who observe see what is below their directory, as long as they want to.
func TestObserve(t *testing.T) {
	path := t.TempDir()
	os.Mkdir(filepath.Join(path, "in"), 0o777)
	os.Mkdir(filepath.Join(path, "inner"), 0o777)
	ctx, cancel := context.WithCancel(t.Context())
	var seen []string
	stop := Observe(filepath.Join(path, "in"), func(c Change) error {
		seen = append(seen, filepath.Base(c.Dir))
		return ctx.Err()
	})
	change := func(dir string) error { return open(t, filepath.Join(path, dir)).Mkdir("x", 0o777) }
	if err := errors.Join(change("in"), change("inner"), change("")); err != nil {
		t.Error(err)
	}
	cancel()
	if err := change("in/x"); !errors.Is(err, context.Canceled) {
		t.Errorf("a change that is refused: %v", err)
	}
	stop()
	if err := change("in/x"); err != nil {
		t.Errorf("after it: %v", err)
	}
	if want := []string{"in", "x"}; !slices.Equal(seen, want) {
		t.Errorf("seen %v, want %v", seen, want)
	}
}

// Where a file system cannot rename to a free name only, a link does it.
func TestRenameNewByLink(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EINVAL, syscall.ENOTSUP, syscall.ENOSYS} {
		for _, to := range []string{"new", "there"} {
			path := t.TempDir()
			os.WriteFile(filepath.Join(path, "old"), []byte("old"), 0o666)
			os.WriteFile(filepath.Join(path, "there"), []byte("there"), 0o666)
			stop := Observe(path, func(next Change) error {
				if next.Kind == Rename {
					return &os.LinkError{Op: "rename", Err: errno}
				}
				return nil
			})
			d := open(t, path)
			err := d.RenameNew("old", to)
			stop()
			if to == "new" && (err != nil || names(t, d) != "new there") {
				t.Errorf("%v: %v, and there are %s", errno, err, names(t, d))
			}
			if to == "there" && (!errors.Is(err, fs.ErrExist) || names(t, d) != "old there") {
				t.Errorf("%v: in place of a file: %v, and there are %s", errno, err, names(t, d))
			}
		}
	}
}

// A file without a name leaves none behind, on file systems that cannot make one either.
func TestScratch(t *testing.T) {
	real := openUnnamed
	defer func() { openUnnamed = real }()
	refused := func(string, int, uint32) (int, error) { return -1, unix.EOPNOTSUPP }
	for name, unnamed := range map[string]func(string, int, uint32) (int, error){"made so": real, "removed": refused} {
		openUnnamed = unnamed
		d := open(t, t.TempDir())
		f, err := d.Scratch()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		_, writeErr := f.WriteString("text")
		text := make([]byte, 4)
		if _, err := f.ReadAt(text, 0); err != nil || writeErr != nil || string(text) != "text" || names(t, d) != "" {
			t.Errorf("%s: %v, %v, and there are %s", name, writeErr, err, names(t, d))
		}
		if info, err := f.Stat(); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
		if _, err := (Dir{path: filepath.Join(d.Name(), "none")}).Scratch(); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: in no directory: %v", name, err)
		}
	}
}

// A file system that refuses to flush what is only read, or a directory, keeps nobody
// from his work. What was written must be flushed, and any other fault is one.
func TestRefusedFlush(t *testing.T) {
	write := func(d Dir) error { _, err := d.Replace("tmp", "file", []byte("new")); return err }
	rewrite := func(d Dir) error {
		d.Reflush = true
		_, err := d.Replace("tmp", "old", []byte("old"))
		return err
	}
	for _, c := range []struct {
		name string
		kind Kind // of the changes that fail
		do   func(d Dir) error
		ok   bool // with EINVAL and ENOTSUP
	}{
		{"a file that is there", Flush, func(d Dir) error { return d.Sync("old") }, true},
		{"a directory", FlushDir, func(d Dir) error { return d.SyncDir(".") }, true},
		{"the directory of a new file", FlushDir, write, true},
		{"the directory of a file that is left", FlushDir, rewrite, true},
		{"a new file", Flush, write, false},
		{"a file that was written before", Flush, rewrite, false},
		{"a file that is being written", Flush, func(d Dir) error {
			f, err := d.Begin("tmp", "file")
			if err != nil {
				return err
			}
			defer f.Discard()
			return f.Sync()
		}, false},
	} {
		for _, errno := range []syscall.Errno{syscall.EINVAL, syscall.ENOTSUP, syscall.EIO, syscall.ENOSPC, syscall.EROFS} {
			path := t.TempDir()
			os.WriteFile(filepath.Join(path, "old"), []byte("old"), 0o666)
			stop := Observe(path, func(next Change) error {
				if next.Kind == c.kind {
					return &os.PathError{Op: "sync", Path: next.Name, Err: errno}
				}
				return nil
			})
			err := c.do(open(t, path))
			stop()
			if want := c.ok && (errno == syscall.EINVAL || errno == syscall.ENOTSUP); want != (err == nil) || err != nil && !errors.Is(err, errno) {
				t.Errorf("%s, %v: %v", c.name, errno, err)
			}
		}
	}
}

// The kernel's own file systems refuse: proc flushes neither files nor directories.
func TestRefusedByProc(t *testing.T) {
	d := open(t, "/proc")
	f, err := d.Open("version")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); !errors.Is(err, syscall.EINVAL) {
		t.Skipf("it does not: %v", err)
	}
	if err := errors.Join(d.Sync("version"), d.SyncDir(".")); err != nil {
		t.Error(err)
	}
	if err := d.Sync("none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of no file: %v", err)
	}
}
