package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"puavo-image-repository/meta/untrusted"
	"puavo-image-repository/testdata"
)

// A file that is not regular is not read, and nobody waits for it. A directory must be one.
func TestOddFiles(t *testing.T) {
	for _, kind := range testdata.OddFiles(t) {
		path := filepath.Join(t.TempDir(), "d") // the path of a socket is short
		if err := errors.Join(os.Mkdir(path, 0o777), kind.Make(filepath.Join(path, "odd"))); err != nil {
			t.Fatal(err)
		}
		d := open(t, path)
		for _, c := range []struct {
			name    string
			do      func() error
			isDir   bool // a directory is right
			mayFail func(error) bool
		}{
			{"Open", func() error { return closed(d.Open("odd")) }, false, isOdd},
			{"ReadFile", func() error { _, err := d.ReadFile("odd", 1<<10); return err }, false, isOdd},
			{"Resume", func() error { _, err := d.Resume("odd", "file", 0); return err }, false, isOdd},
			{"Sync", func() error { return d.Sync("odd") }, true, isOddOrGone},
			{"FS.Open", func() error { return closed(d.FS().Open("odd")) }, true, isOddOrGone},
			{"FS.ReadDir", func() error { _, err := fs.ReadDir(d.FS(), "odd"); return err }, true, isNoDirOrGone},
			{"Sub", func() error { return closed(d.Sub("odd")) }, true, isNoDirOrGone},
			{"OpenDir", func() error { return closed(d.OpenDir("odd")) }, true, isNoDirOrGone},
			{"OpenRoot", func() error { return closed(OpenRoot(filepath.Join(path, "odd"))) }, true, isNoDirOrGone},
		} {
			testdata.Promptly(t, kind.Name+": "+c.name, func() {
				err := c.do()
				if right := c.isDir && kind.Name == "a directory"; right != (err == nil) || !right && !c.mayFail(err) {
					t.Errorf("%s: %s: %v", kind.Name, c.name, err)
				}
			})
		}
	}
}

func closed(f interface{ Close() error }, err error) error {
	if err == nil {
		err = f.Close()
	}
	return err
}

// isOdd reports whether an error says what the file is and what to do.
func isOdd(err error) bool {
	pathErr, ok := errors.AsType[*fs.PathError](err)
	return ok && errors.Is(err, ErrNotRegular) && strings.HasSuffix(pathErr.Path, "d/odd") && strings.Contains(err.Error(), ": it is a ") && strings.HasSuffix(err.Error(), "; move it away")
}

// Where links are followed, one can lead to nothing, to itself, or out.
func isOddOrGone(err error) bool {
	return isOdd(err) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ELOOP) || strings.Contains(err.Error(), "escapes") || strings.Contains(err.Error(), "too many")
}

func isNoDirOrGone(err error) bool {
	return errors.Is(err, syscall.ENOTDIR) || !isOdd(err) && isOddOrGone(err)
}

// What is replaced need not have been a file.
func TestReplaceOddFiles(t *testing.T) {
	kinds := append(testdata.OddFiles(t), testdata.Odd{Name: "2 GiB", Make: testdata.Sparse})
	for _, kind := range kinds {
		path := filepath.Join(t.TempDir(), "d")
		if err := errors.Join(os.Mkdir(path, 0o777), kind.Make(filepath.Join(path, "odd"))); err != nil {
			t.Fatal(err)
		}
		d := open(t, path)
		testdata.Promptly(t, kind.Name, func() {
			var err error
			if used := testdata.Allocated(func() { _, err = d.Replace("tmp", "odd", []byte("new")) }); used > 1<<20 {
				t.Errorf("%s: it takes %d bytes of memory", kind.Name, used)
			}
			if kind.Name == "a directory" {
				if err == nil || names(t, d) != "" {
					t.Errorf("%s: %v, left are %s", kind.Name, err, names(t, d))
				}
				return
			}
			if data, readErr := d.ReadFile("odd", 3); err != nil || readErr != nil || string(data) != "new" || names(t, d) != "odd" {
				t.Errorf("%s: %v, then %q, %v, left are %s", kind.Name, err, data, readErr, names(t, d))
			}
		})
	}
}

// The size of what is read is bounded before it is read.
func TestReadFileBounded(t *testing.T) {
	d := open(t, t.TempDir())
	if err := errors.Join(os.WriteFile(filepath.Join(d.Name(), "file"), []byte("abc"), 0o666), testdata.Sparse(filepath.Join(d.Name(), "sparse"))); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		most int64
		want string
		err  error
	}{
		{"file", 3, "abc", nil},
		{"file", 1 << 40, "abc", nil},
		{"file", 2, "", untrusted.ErrTooLarge},
		{"sparse", 64 << 20, "", untrusted.ErrTooLarge},
		{"none", 3, "", fs.ErrNotExist},
	} {
		var data []byte
		var err error
		if used := testdata.Allocated(func() { data, err = d.ReadFile(c.name, c.most) }); used > 1<<20 {
			t.Errorf("%s, %d: it takes %d bytes of memory", c.name, c.most, used)
		}
		if string(data) != c.want || !errors.Is(err, c.err) || err != nil && !strings.Contains(err.Error(), c.name) {
			t.Errorf("%s, %d: %q, %v", c.name, c.most, data, err)
		}
	}
}

func TestDescribe(t *testing.T) {
	for mode, want := range map[fs.FileMode]string{
		0o644: "a regular file", fs.ModeDir | 0o755: "a directory", fs.ModeSymlink: "a symbolic link", fs.ModeNamedPipe: "a pipe",
		fs.ModeSocket: "a socket", fs.ModeDevice: "a device", fs.ModeDevice | fs.ModeCharDevice: "a device", fs.ModeIrregular: "no regular file",
	} {
		if got := Describe(mode); got != want {
			t.Errorf("%v is %s, want %s", mode, got, want)
		}
	}
}

// The tree is read as that of an os.Root: sorted, by valid paths, and through links in it.
func TestFS(t *testing.T) {
	d := open(t, t.TempDir())
	err := errors.Join(d.MkdirAll("sub/b", 0o777), os.Symlink("sub", filepath.Join(d.Name(), "link")),
		os.WriteFile(filepath.Join(d.Name(), "sub/a"), []byte("text"), 0o666))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"sub", "link"} {
		entries, err := fs.ReadDir(d.FS(), dir)
		if err != nil || len(entries) != 2 || entries[0].Name() != "a" || entries[1].Name() != "b" {
			t.Errorf("%s holds %v, %v", dir, entries, err)
		}
	}
	if data, err := fs.ReadFile(d.FS(), "link/a"); string(data) != "text" || err != nil {
		t.Errorf("%q, %v", data, err)
	}
	if info, err := fs.Stat(d.FS(), "link"); err != nil || !info.IsDir() {
		t.Errorf("%v, %v", info, err)
	}
	for _, name := range []string{"../x", "/etc", "sub/", ""} {
		_, openErr := d.FS().Open(name)
		_, readErr := fs.ReadDir(d.FS(), name)
		if !errors.Is(openErr, fs.ErrInvalid) || !errors.Is(readErr, fs.ErrInvalid) {
			t.Errorf("%q: %v, %v", name, openErr, readErr)
		}
	}
}

// What takes the place of a file after it was looked at is not waited at either.
func TestSwapped(t *testing.T) {
	d := open(t, t.TempDir())
	path := filepath.Join(d.Name(), "file")
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	look := func(name string) (fs.FileInfo, error) {
		info, err := d.Lstat(name)
		return info, errors.Join(err, testdata.PutOdd("pipe", path))
	}
	testdata.Promptly(t, "a pipe", func() {
		if f, err := d.open("file", os.O_RDONLY, look, 0); !errors.Is(err, ErrNotRegular) {
			t.Errorf("%v, %v", f, err)
		}
	})
}

// A regular file is opened by any path, also through a link, and nothing else.
func TestOpenRegular(t *testing.T) {
	t.Chdir(t.TempDir()) // the path of a socket is short
	if err := errors.Join(os.WriteFile("file", nil, 0o666), os.Symlink("file", "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"file", "link"} {
		if err := closed(OpenRegular(name)); err != nil {
			t.Error(err)
		}
	}
	for _, kind := range testdata.OddFiles(t) {
		if err := kind.Make("odd"); err != nil {
			t.Fatal(err)
		}
		testdata.Promptly(t, kind.Name, func() {
			_, err := OpenRegular("odd")
			if _, ok := errors.AsType[*fs.PathError](err); !ok {
				t.Errorf("%s: %v", kind.Name, err)
			}
		})
		if err := os.Remove("odd"); err != nil {
			t.Fatal(err)
		}
	}
}
