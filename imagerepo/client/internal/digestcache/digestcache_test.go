package digestcache

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

// without leaves out digests.
func without(s cksum.Sums, sha512, blake3 bool) cksum.Sums {
	if sha512 {
		s.SHA512 = cksum.Digest512{}
	}
	if blake3 {
		s.BLAKE3 = cksum.Digest256{}
	}
	return s
}

// A file that takes the place of another is not the one it was.
func TestStamp(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, imageA, imageB)
	a, errA := os.Lstat(filepath.Join(dir, imageA))
	b, errB := os.Lstat(filepath.Join(dir, imageB))
	if err := errors.Join(errA, errB); err != nil {
		t.Fatal(err)
	}
	s := stampOf(b)
	s.MTime, s.CTime = stampOf(a).MTime, stampOf(a).CTime
	if s == stampOf(a) {
		t.Errorf("two files have the stamp %v", s)
	}
}

// touch writes the first byte of a file again, until its ctime is another: the
// clock of older systems stands still for some milliseconds.
func touch(p string) error {
	before, err := os.Lstat(p)
	for after := before; err == nil && stampOf(after).CTime == stampOf(before).CTime; after, err = os.Lstat(p) {
		var f *os.File
		if f, err = os.OpenFile(p, os.O_RDWR, 0); err != nil {
			break
		}
		b := make([]byte, 1)
		f.ReadAt(b, 0)
		f.WriteAt(b, 0)
		f.Close()
	}
	return err
}

// However a file is changed, it is read again.
func TestChanges(t *testing.T) {
	setBack := func(p string, change func() error) error {
		before, err := os.Lstat(p)
		if err != nil {
			return err
		}
		return errors.Join(touch(p), change(), os.Chtimes(p, time.Time{}, before.ModTime()))
	}
	flip := func(p string) error { return os.WriteFile(p, []byte(strings.ToUpper(imageA)), 0) }
	for _, c := range []struct {
		name   string
		change func(p string) error
		right  bool // after it
	}{
		{"a flipped bit, and the mtime set back", func(p string) error { return setBack(p, func() error { return flip(p) }) }, false},
		{"another file, with the same mtime", func(p string) error {
			return setBack(p, func() error { return errors.Join(os.Remove(p), os.WriteFile(p, []byte(imageB), 0o666)) })
		}, false},
		{"longer", func(p string) error { return os.Truncate(p, 100) }, false},
		{"the same again", func(p string) error { return os.WriteFile(p, []byte(imageA), 0) }, true},
		{"touched", touch, true},
	} {
		for _, first := range []string{"learnt", "checked"} {
			dir := t.TempDir()
			fill(t, dir, imageA)
			cache := writable(t, dir)
			var err error
			if first == "learnt" {
				err = cache.Learn(imageA, sumsOf(imageA))
			} else {
				err = cache.Check(t.Context(), imageA, sumsOf(imageA), nil)
			}
			p := filepath.Join(dir, imageA)
			if err := errors.Join(err, touch(p), cache.Check(t.Context(), imageA, sumsOf(imageA), nil), c.change(p)); err != nil {
				t.Fatal(c.name, err)
			}
			for _, cache := range []*Cache{cache, open(t, dir)} {
				if right, _ := cache.Known(imageA, sumsOf(imageA)); right && !c.right {
					t.Errorf("%s, %s: known to be right", c.name, first)
				}
				err := cache.Check(t.Context(), imageA, sumsOf(imageA), nil)
				if (err == nil) != c.right || err != nil && !errors.Is(err, ErrWrong) {
					t.Errorf("%s, %s: %v", c.name, first, err)
				}
			}
		}
	}
}

// What is known answers for the digests that were computed and are wanted. Of what is
// learnt, that is the fastest: the others were named, and compared with nothing.
func TestKnown(t *testing.T) {
	right, wrong := sumsOf(imageA), sumsOf(strings.ToUpper(imageA))
	mixed := right // as from a mirror that is wrong about one
	mixed.BLAKE3 = wrong.BLAKE3
	sha512, blake3 := without(right, false, true), without(right, true, false)
	sha256 := cksum.Sums{Size: right.Size, SHA256: cksum.Digest256{1}}
	both256 := sha256
	both256.SHA512 = right.SHA512
	for _, c := range []struct {
		name         string
		learn        []cksum.Sums
		want         cksum.Sums
		right, known bool
	}{
		{"nothing", nil, right, false, false},
		{"nothing, but the size", nil, sumsOf("x"), false, true},
		{"both", []cksum.Sums{right}, right, true, true},
		{"both, other", []cksum.Sums{right}, wrong, false, true},
		{"both, and the SHA-512 alone is wanted", []cksum.Sums{right}, sha512, false, false},
		{"SHA-512 of both", []cksum.Sums{sha512}, right, true, true},
		{"SHA-512 of both, other", []cksum.Sums{sha512}, wrong, false, true},
		{"SHA-512 of BLAKE3", []cksum.Sums{sha512}, blake3, false, false},
		{"BLAKE3 of both", []cksum.Sums{blake3}, right, true, true},
		{"BLAKE3 of SHA-512", []cksum.Sums{blake3}, sha512, false, false},
		{"SHA-256 of both", []cksum.Sums{sha256}, both256, true, true},
		{"SHA-256 of SHA-512", []cksum.Sums{sha256}, sha512, false, false},
		{"SHA-256 of BLAKE3", []cksum.Sums{sha256}, blake3, false, false},
		{"one after the other", []cksum.Sums{blake3, sha256, sha512}, right, true, true},
		{"one after the other, the second", []cksum.Sums{blake3, sha256, sha512}, sha256, true, true},
		{"one after the other, reversed", []cksum.Sums{sha512, sha256, blake3}, sha512, true, true},
		{"a wrong BLAKE3", []cksum.Sums{right}, mixed, false, true},
		{"a wrong BLAKE3, and the SHA-512 is known", []cksum.Sums{sha512}, mixed, true, true},
		{"none wanted", []cksum.Sums{right}, without(right, true, true), false, false},
	} {
		dir := t.TempDir()
		fill(t, dir, imageA)
		cache := writable(t, dir)
		for _, s := range c.learn {
			if err := cache.Learn(imageA, s); err != nil {
				t.Fatal(err)
			}
		}
		for _, cache := range []*Cache{cache, open(t, dir)} {
			if right, known := cache.Known(imageA, c.want); right != c.right || known != c.known {
				t.Errorf("%s: right %v, known %v", c.name, right, known)
			}
		}
		cache.Forget(imageA)
		if right, known := cache.Known(imageA, right); right || known {
			t.Errorf("%s, forgotten: right %v, known %v", c.name, right, known)
		}
	}
	if right, known := open(t, t.TempDir()).Known(imageA, right); right || known {
		t.Errorf("not there: right %v, known %v", right, known)
	}
}

func TestLearnRefused(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, imageA, "ltsp.img", imageB+".tmp.journal")
	os.Mkdir(filepath.Join(dir, imageC), 0o777)
	cache := writable(t, dir)
	for file, want := range map[string]string{
		imageD: "no such file", imageC: "no digest to record", "ltsp.img": "no digest to record", imageB + ".tmp.journal": "no digest to record", "../x": "escapes",
	} {
		sums := sumsOf(file)
		if err := cache.Learn(file, sums); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", file, err, want)
		}
	}
	if err := cache.Learn(imageA, sumsOf("x")); !errors.Is(err, ErrWrong) {
		t.Errorf("of another size: %v", err)
	}
	// What no image has is checked, but not remembered.
	if err := cache.Check(t.Context(), "ltsp.img", sumsOf("ltsp.img"), nil); err != nil {
		t.Error(err)
	}
	if len(cache.contents.Files) != 0 {
		t.Errorf("known is %v", cache.contents.Files)
	}
}

// What is gone is dropped when what is known is written. Of what was changed stays what it
// was, which is not what it is.
func TestDropped(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, imageA, imageB, imageC)
	cache := writable(t, dir)
	for _, f := range []string{imageA, imageB, imageC} {
		if err := cache.Learn(f, sumsOf(f)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Remove(filepath.Join(dir, imageA)), touch(filepath.Join(dir, imageB)), cache.SetPending(meta.Name{})); err != nil {
		t.Fatal(err)
	}
	k := parse([]byte(content(dir, fileName)))
	if files := slices.Sorted(maps.Keys(k.Files)); !slices.Equal(files, []string{imageB, imageC}) {
		t.Errorf("known are %v", files)
	}
	if _, known := open(t, dir).Known(imageB, sumsOf(imageB)); known {
		t.Error("what was changed is known")
	}
}

// Without a document, a file is compared with what it was.
func TestRecheck(t *testing.T) {
	overwrite := func(text string) func(t *testing.T, c *Cache) {
		return func(t *testing.T, c *Cache) { fill(t, c.dir.Name(), imageA+"="+text) }
	}
	find := func(other string) func(t *testing.T, c *Cache) {
		return func(t *testing.T, c *Cache) {
			if err := c.Check(t.Context(), imageA, sumsOf(other), nil); (err == nil) != (other == imageA) {
				t.Fatal(err)
			}
		}
	}
	upper := strings.ToUpper(imageA)
	for _, c := range []struct {
		name  string
		steps []func(t *testing.T, c *Cache)
		want  error
	}{
		{"right", nil, nil},
		{"touched", []func(t *testing.T, c *Cache){overwrite(imageA)}, nil},
		{"another, of the same size", []func(t *testing.T, c *Cache){overwrite(upper)}, ErrWrong},
		{"another size", []func(t *testing.T, c *Cache){overwrite("x")}, ErrWrong},
		{"another, and known to be", []func(t *testing.T, c *Cache){overwrite(upper), find(imageA + "x"), find(upper + "x")}, ErrWrong},
		{"found wrong", []func(t *testing.T, c *Cache){find(upper)}, ErrWrong},
		{"found wrong, then right", []func(t *testing.T, c *Cache){find(upper), find(imageA)}, nil},
		{"found wrong, then replaced", []func(t *testing.T, c *Cache){find(upper), overwrite(upper)}, ErrUnknown},
		{"never read", []func(t *testing.T, c *Cache){func(_ *testing.T, c *Cache) { c.Forget(imageA) }}, ErrUnknown},
		{"what is known is damaged", []func(t *testing.T, c *Cache){func(t *testing.T, c *Cache) { fill(t, c.dir.Name(), fileName+"={") }}, ErrUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			fill(t, dir, imageA)
			cache := writable(t, dir)
			if err := cache.Learn(imageA, sumsOf(imageA)); err != nil {
				t.Fatal(err)
			}
			for _, step := range c.steps {
				if step(t, cache); c.name != "never read" {
					cache = writable(t, dir) // as another run finds it
				}
			}
			for range 2 { // what it finds the first time stands
				if err := cache.Recheck(t.Context(), imageA, nil); !errors.Is(err, c.want) {
					t.Errorf("%v, want %v", err, c.want)
				}
			}
		})
	}
}

func TestRecheckCancelled(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, imageA)
	cache := writable(t, dir)
	if err := cache.Learn(imageA, sumsOf(imageA)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := cache.Recheck(ctx, imageA, func(done, total int64) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("at the end: %v", err)
	}
	if err := cache.Recheck(ctx, imageA, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("before: %v", err)
	}
	if err := cache.Recheck(t.Context(), imageB, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of nothing: %v", err)
	}
}

// Where nothing can be written, what was found out still stands.
func TestCannotRemember(t *testing.T) {
	full := writable(t, fullDisk(t, imageA))
	readOnly := testdata.SmallDisk(t, 64<<10)
	fill(t, readOnly, imageA)
	if err := syscall.Mount("", readOnly, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for what, cache := range map[string]*Cache{"a full disk": full, "a read-only one": open(t, readOnly)} {
		before := list(t, cache.dir.Name())
		if err := cache.Check(t.Context(), imageA, sumsOf(imageA), nil); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if err := cache.Check(t.Context(), imageA, sumsOf(strings.ToUpper(imageA)), nil); !errors.Is(err, ErrWrong) {
			t.Errorf("%s: %v", what, err)
		}
		if err := cache.Learn(imageA, sumsOf(imageA)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if right, known := cache.Known(imageA, sumsOf(imageA)); !right || !known {
			t.Errorf("%s: right %v, known %v", what, right, known)
		}
		if got := list(t, cache.dir.Name()); got != before || content(cache.dir.Name(), fileName) != "" {
			t.Errorf("%s: left are %s", what, got)
		}
	}
}

func TestPending(t *testing.T) {
	dir := t.TempDir()
	cache := writable(t, dir)
	for _, n := range []meta.Name{name(t, imageA), name(t, imageB), {}, {}} {
		if err := cache.SetPending(n); err != nil || cache.Pending() != n || open(t, dir).Pending() != n {
			t.Errorf("%v: %v here, %v on the disk, %v", n, cache.Pending(), open(t, dir).Pending(), err)
		}
	}
	dir = fullDisk(t)
	cache = writable(t, dir)
	if err := cache.SetPending(name(t, imageA)); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), dir) || cache.Pending() != (meta.Name{}) {
		t.Errorf("on a full disk: %v, pending is %v", err, cache.Pending())
	}
}

// What another has changed meanwhile is not taken for known.
func TestNotPreserved(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, imageA, imageB)
	cache := writable(t, dir)
	for _, f := range []string{imageA, imageB} {
		if err := cache.Learn(f, sumsOf(f)); err != nil {
			t.Fatal(err)
		}
	}
	if err := cache.Preserve(func() error { return touch(filepath.Join(dir, imageA)) }); err != nil {
		t.Fatal(err)
	}
	if _, known := cache.Known(imageA, sumsOf(imageA)); known {
		t.Error("a file that was written to is known")
	}
	if _, known := cache.Known(imageB, sumsOf(imageB)); !known {
		t.Error("one that was not is unknown")
	}
}
