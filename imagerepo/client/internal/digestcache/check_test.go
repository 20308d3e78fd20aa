package digestcache

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"puavo-image-repository/cksum"
)

func TestCheck(t *testing.T) {
	right := sumsOf(imageA)
	other := sumsOf(strings.ToUpper(imageA))
	for _, c := range []struct {
		name string
		file string
		want cksum.Sums
		err  error
		says string
		read bool // the first time, none the second
	}{
		{"right", imageA, right, nil, "", true},
		{"right by its SHA-512", imageA, without(right, false, true), nil, "", true},
		{"right by its BLAKE3", imageA, without(right, true, false), nil, "", true},
		{"wrong", imageA, other, ErrWrong, "its BLAKE3 is " + right.BLAKE3.String() + ", want " + other.BLAKE3.String(), true},
		{"wrong by its SHA-512", imageA, without(other, false, true), ErrWrong, "its SHA-512 is " + right.SHA512.String(), true},
		{"shorter", imageA, sumsOf(imageA + "x"), ErrWrong, "has 30 bytes, want 31", false},
		{"longer", imageA, sumsOf(imageA[1:]), ErrWrong, "has 30 bytes, want 29", false},
		{"empty", imageB, sumsOf(""), nil, "", false},
		{"not there", imageD, right, fs.ErrNotExist, "", false},
		{"a directory", "dir", right, ErrWrong, "not a regular file", false},
		{"a symbolic link", "symlink", right, ErrWrong, "not a regular file", false},
		{"a pipe", imageC, right, ErrWrong, "not a regular file", false},
		{"outside", "../x", right, nil, "escapes", false},
	} {
		dir := t.TempDir()
		fill(t, dir, imageA, imageB+"=")
		os.Mkdir(filepath.Join(dir, "dir"), 0o777)
		os.Symlink(imageA, filepath.Join(dir, "symlink"))
		if err := syscall.Mkfifo(filepath.Join(dir, imageC), 0o666); err != nil {
			t.Fatal(err)
		}
		cache := writable(t, dir)
		for i, cache := range []*Cache{cache, cache, open(t, dir)} {
			if i == 2 {
				cache.load() // what the first has written by now
			}
			read := false
			err := cache.Check(t.Context(), c.file, c.want, func(done, total int64) {
				if read = true; done != total || total != c.want.Size {
					t.Errorf("%s: %d of %d bytes", c.name, done, total)
				}
			})
			if !errors.Is(err, c.err) && c.says == "" || (err != nil) != (c.err != nil || c.says != "") {
				t.Errorf("%s: %v, want %v", c.name, err, c.err)
			}
			if err != nil && (!strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), c.file)) {
				t.Errorf("%s: %v, which does not say %q", c.name, err, c.says)
			}
			if read != (c.read && i == 0) {
				t.Errorf("%s, time %d: read is %v", c.name, i, read)
			}
		}
	}
}

func TestCheckCancelled(t *testing.T) {
	large := strings.Repeat("x", 5<<19)
	for _, c := range []struct {
		name string
		at   int64 // bytes after which the context ends
	}{{"before", 0}, {"midway", 1 << 20}, {"at the end", 5 << 19}} {
		dir := t.TempDir()
		fill(t, dir, imageA+"="+large)
		cache := writable(t, dir)
		ctx, cancel := context.WithCancel(t.Context())
		if c.at == 0 {
			cancel()
		}
		last := int64(0)
		err := cache.Check(ctx, imageA, sumsOf(large), func(done, _ int64) {
			if last = done; done >= c.at {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) || last != c.at {
			t.Errorf("%s: %v after %d bytes", c.name, err, last)
		}
		if _, known := cache.Known(imageA, sumsOf(large)); known {
			t.Errorf("%s: something is known", c.name)
		}
		// Nor is what is known told.
		if err := cache.Learn(imageA, sumsOf(large)); err != nil {
			t.Fatal(err)
		}
		if err := cache.Check(ctx, imageA, sumsOf(large), nil); !errors.Is(err, context.Canceled) {
			t.Errorf("%s, and known: %v", c.name, err)
		}
	}
}

// What is changed while it is read is not remembered.
func TestCheckChanging(t *testing.T) {
	large := strings.Repeat("x", 5<<19)
	for _, c := range []struct {
		name   string
		change func(p string) error
		says   string // "": what was read is right
	}{
		{"written to", func(p string) error { return touch(p) }, ""},
		{"grows", func(p string) error { return os.Truncate(p, 3<<20) }, "size changed"},
		{"shrinks", func(p string) error { return os.Truncate(p, 2<<20) }, "size changed"},
	} {
		dir := t.TempDir()
		fill(t, dir, imageA+"="+large)
		cache := writable(t, dir)
		changed := false
		err := cache.Check(t.Context(), imageA, sumsOf(large), func(int64, int64) {
			if !changed {
				if changed = true; c.change(filepath.Join(dir, imageA)) != nil {
					t.Error("not changed")
				}
			}
		})
		if c.says == "" && err != nil || c.says != "" && (!errors.Is(err, ErrWrong) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
		for _, cache := range []*Cache{cache, open(t, dir)} {
			if right, _ := cache.Known(imageA, sumsOf(large)); right {
				t.Errorf("%s: known to be right", c.name)
			}
		}
	}
}

// endless is a file that grows faster than it is read.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestReadEndless(t *testing.T) {
	err := read(t.Context(), cksum.NewFor(sumsOf("x")), endless{}, imageA, 5<<20, nil)
	if !errors.Is(err, ErrWrong) || !strings.Contains(err.Error(), "size changed") {
		t.Error(err)
	}
}
