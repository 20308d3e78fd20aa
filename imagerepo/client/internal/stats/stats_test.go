package stats

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"puavo-image-repository/testdata"
)

const image = "puavo-os-amxa-buster-2022-01-20-173248-amd64.img"

// logged returns a log and the lines that it takes.
func logged() (*slog.Logger, *bytes.Buffer) {
	var b bytes.Buffer
	return slog.New(slog.NewTextHandler(&b, nil)), &b
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// names returns the names in a directory, so that nothing left behind is missed.
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

// What each phase says, which is all that the file says.
func TestPhase(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, Name)
	log, lines := logged()
	f := New(path, log)
	for _, c := range []struct {
		image, phase string
		done, total  int64
		want         string // of the percent
	}{
		{"", Starting, 0, 0, "0"},
		{"", Starting, 5, 10, "0"},
		{"", ChecksumsFetch, 0, 0, "0"},
		{image, ChecksumsFetch, 5, 10, "50"},
		{image, RdiffFetch, 7, 0, "0"},
		{image, RdiffFetch, -1, 10, "0"},
		{image, RdiffFetch, 1, -10, "0"},
		{image, RdiffFetch, 1, 101, "0"},
		{image, RdiffChecksum, 29, 100, "29"},
		{image, ImagePatch, 999, 1000, "99"},
		{image, ImagePatch, 1000, 1000, "100"},
		{image, ImageDownload, 1001, 1000, "100"},
		{image, ImageSync, 1, 3, "33"},
		{image, ImageChecksum, math.MaxInt64 - 1, math.MaxInt64, "99"},
		{image, ImageChecksum, math.MaxInt64, math.MaxInt64, "100"},
		{image, Finished, 0, 0, "100"},
		{image, UpToDate, 1, 2, "100"},
		{image, Error, 1, 2, "0"},
		{image, Interrupted, 2, 2, "0"},
	} {
		f.Phase(c.image, c.phase, c.done, c.total)
		want := "image " + c.image + "\nphase " + c.phase + "\nprogress " + c.want + "\n"
		if got := read(t, path); got != want {
			t.Errorf("%s, %d of %d: %q, want %q", c.phase, c.done, c.total, got, want)
		}
	}
	if got := names(t, dir); got != Name || lines.Len() > 0 {
		t.Errorf("left are %s, logged is %q", got, lines)
	}
}

// The installed tools find the values in this way.
func TestAwk(t *testing.T) {
	path := filepath.Join(t.TempDir(), Name)
	log, _ := logged()
	f := New(path, log)
	for _, c := range []struct{ image, want string }{{"", "||rdiff_fetch|25|"}, {image, "|" + image + "|rdiff_fetch|25|"}} {
		f.Phase(c.image, RdiffFetch, 1, 4)
		got := "|"
		for _, key := range []string{"image", "phase", "progress"} {
			out := testdata.Run(t, "awk", "-v", "key="+key, "$1 == key { print $2 }", path)
			got += strings.TrimSuffix(string(out), "\n") + "|"
		}
		if got != c.want {
			t.Errorf("awk finds %s, want %s", got, c.want)
		}
		// Others split at white space, and count.
		if words := strings.Split(strings.ReplaceAll(read(t, path), "\n", " "), " "); words[1] != c.image || words[3] != RdiffFetch || words[5] != "25" {
			t.Errorf("the words are %q", words)
		}
	}
}

// Only what is new is written: a file that is replaced is another one.
func TestChangedOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), Name)
	stat := func() fs.FileInfo {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	log, _ := logged()
	f := New(path, log)
	f.Phase(image, RdiffFetch, 100, 1000)
	for _, c := range []struct {
		name        string
		f           *File
		phase       string
		done, total int64
		written     bool
	}{
		{"the same", f, RdiffFetch, 100, 1000, false},
		{"less than a percent", f, RdiffFetch, 109, 1000, false},
		{"by another process", New(path, log), RdiffFetch, 1, 10, false},
		{"a percent", f, RdiffFetch, 110, 1000, true},
		{"another phase", f, RdiffChecksum, 110, 1000, true},
		{"by another process, another phase", New(path, log), Interrupted, 0, 0, true},
	} {
		before, err := os.Open(path) // so that its inode is not used again
		if err != nil {
			t.Fatal(err)
		}
		defer before.Close()
		old, err := before.Stat()
		if err != nil {
			t.Fatal(err)
		}
		c.f.Phase(image, c.phase, c.done, c.total)
		now := stat()
		if same := os.SameFile(old, now) && old.ModTime().Equal(now.ModTime()); same == c.written {
			t.Errorf("%s: written %v, want %v", c.name, !same, c.written)
		}
	}
}

// None is written where none is wanted.
func TestNone(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	log, lines := logged()
	New("", log).Phase(image, Starting, 0, 0)
	(*File)(nil).Phase(image, Finished, 0, 0)
	if got := names(t, dir); got != "" || lines.Len() > 0 {
		t.Errorf("written are %q, logged is %q", got, lines)
	}
}

// A path may have no directory. What a link leads to is replaced, or made; the temporary
// name is no link then.
func TestPath(t *testing.T) {
	text := "image " + image + "\nphase starting\nprogress 0\n"
	for _, c := range []struct {
		name    string
		prepare func() error
		file    string // which has the text
		left    string
	}{
		{"nothing", func() error { return nil }, Name, Name},
		{"a file", func() error { return os.WriteFile(Name, []byte("old"), 0o666) }, Name, Name},
		{"2 GiB", func() error { return testdata.Sparse(Name) }, Name, Name},
		{"a link to a file", func() error { return errors.Join(os.WriteFile("other", nil, 0o666), os.Symlink("other", Name)) }, "other", Name + " other"},
		{"a link to nothing", func() error { return os.Symlink("other", Name) }, "other", Name + " other"},
		{"a link at the temporary name", func() error {
			return errors.Join(os.WriteFile("kept", nil, 0o666), os.Symlink("kept", Name+".tmp"))
		}, Name, Name + " kept"},
	} {
		dir := t.TempDir()
		t.Chdir(dir)
		if err := c.prepare(); err != nil {
			t.Fatal(err)
		}
		links, _ := os.Readlink(Name)
		log, lines := logged()
		if used := testdata.Allocated(func() { New(Name, log).Phase(image, Starting, 0, 0) }); used > 1<<20 {
			t.Errorf("%s: it takes %d bytes of memory", c.name, used)
		}
		if got := read(t, c.file); got != text || strings.Contains(c.left, "kept") && read(t, "kept") != "" {
			t.Errorf("%s: %s holds %q", c.name, c.file, got)
		}
		if after, _ := os.Readlink(Name); after != links || names(t, dir) != c.left || lines.Len() > 0 {
			t.Errorf("%s: left are %s, the link leads to %q, logged is %q", c.name, names(t, dir), after, lines)
		}
	}
}

// A pipe gets what is new as long as there is a reader. One without a reader is not waited
// at, but warned of, once; it may come.
func TestPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), Name)
	if err := syscall.Mkfifo(path, 0o666); err != nil {
		t.Fatal(err)
	}
	log, lines := logged()
	f := New(path, log)
	testdata.Promptly(t, "no reader", func() {
		f.Phase(image, Starting, 0, 0)
		f.Phase(image, RdiffFetch, 1, 2)
	})
	if got := lines.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=WARN") || !strings.Contains(got, "no process reads from this pipe") {
		t.Errorf("logged is %q", got)
	}
	r, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	f.Phase(image, RdiffFetch, 2, 2)
	f.Phase(image, RdiffFetch, 2, 2)
	f.Phase(image, Finished, 0, 0)
	want := "image " + image + "\nphase rdiff_fetch\nprogress 100\nimage " + image + "\nphase finished\nprogress 100\n"
	got := make([]byte, 1<<10)
	if n, err := r.Read(got); string(got[:n]) != want || err != nil {
		t.Errorf("read %q, %v, want %q", got[:n], err, want)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode()&fs.ModeNamedPipe == 0 || strings.Count(lines.String(), "\n") != 1 {
		t.Errorf("left is %v, %v, logged is %q", info, err, lines)
	}
}

// A device stays one.
func TestDevice(t *testing.T) {
	kind := testdata.OddFile(t, "a device")
	path := filepath.Join(t.TempDir(), Name)
	if err := kind.Make(path); err != nil {
		t.Fatal(err)
	}
	log, lines := logged()
	New(path, log).Phase(image, Starting, 0, 0)
	if info, err := os.Lstat(path); err != nil || info.Mode()&fs.ModeDevice == 0 || lines.Len() > 0 {
		t.Errorf("left is %v, %v, logged is %q", info, err, lines)
	}
}

// A file that cannot be written is told once, and tried again: what was in the way
// may go.
func TestFailures(t *testing.T) {
	for _, c := range []struct {
		name       string
		path       string
		hinder     func(dir string) error
		remedy     func(dir string) error
		wantReason string
	}{
		{
			"no directory", "none/" + Name,
			func(string) error { return nil },
			func(dir string) error { return os.Mkdir(filepath.Join(dir, "none"), 0o777) },
			"no such file or directory",
		},
		{
			"its directory is a file", "file/" + Name,
			func(dir string) error { return os.WriteFile(filepath.Join(dir, "file"), nil, 0o666) },
			func(dir string) error {
				return errors.Join(os.Remove(filepath.Join(dir, "file")), os.Mkdir(filepath.Join(dir, "file"), 0o777))
			},
			"not a directory",
		},
		{
			"its name is a directory's", Name,
			func(dir string) error { return os.MkdirAll(filepath.Join(dir, Name, "sub"), 0o777) },
			func(dir string) error { return os.RemoveAll(filepath.Join(dir, Name)) },
			"is a directory",
		},
		{
			"the temporary name is a directory's", Name,
			func(dir string) error { return os.MkdirAll(filepath.Join(dir, Name+".tmp", "sub"), 0o777) },
			func(dir string) error { return os.RemoveAll(filepath.Join(dir, Name+".tmp")) },
			"not empty",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := c.hinder(dir); err != nil {
				t.Fatal(err)
			}
			log, lines := logged()
			path := filepath.Join(dir, c.path)
			f := New(path, log)
			f.Phase(image, Starting, 0, 0)
			f.Phase(image, RdiffFetch, 1, 2)
			if got := lines.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=WARN") ||
				!strings.Contains(got, "file="+path) || !strings.Contains(got, c.wantReason) {
				t.Errorf("logged is %q, want one warning about %q", got, c.wantReason)
			}
			if err := c.remedy(dir); err != nil {
				t.Fatal(err)
			}
			f.Phase(image, RdiffFetch, 2, 2)
			if got := read(t, path); !strings.HasSuffix(got, "progress 100\n") {
				t.Errorf("after the remedy the file holds %q", got)
			}
		})
	}
}

// On a full disk what was told last stays.
func TestFullDisk(t *testing.T) {
	dir := testdata.SmallDisk(t, 64<<10)
	path := filepath.Join(dir, Name)
	log, lines := logged()
	f := New(path, log)
	f.Phase(image, ImageDownload, 1, 100)
	old := read(t, path)
	for i := 0; ; i++ {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("filler", i)), make([]byte, 4<<10), 0o666); err != nil {
			break
		}
	}
	for done := range int64(50) {
		f.Phase(image, ImageDownload, 1+done, 100)
	}
	if got := read(t, path); got != old {
		t.Errorf("the file holds %q, want %q", got, old)
	}
	if got := lines.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "no space left") {
		t.Errorf("logged is %q", got)
	}
	if got := names(t, dir); strings.Contains(got, ".tmp") {
		t.Errorf("left are %s", got)
	}
}
