package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/imagerepo/internal/work"
)

const size = 1000 // bytes of each image

// image returns an image of one letter.
func image(letter string) (work.File, []byte) {
	data := bytes.Repeat([]byte(letter), size)
	h := cksum.NewBLAKE3()
	h.Write(data)
	return work.File{Size: size, BLAKE3: cksum.Digest256(h.Sum(nil))}, data
}

// place is a cache and where its images come from.
type place struct {
	t       *testing.T
	dir     string
	cache   *Cache
	fetched []string // images, each with where it began
	faults  int      // how often a fetch ends half way
	other   bool     // whether another image arrives
	calls   atomic.Int64
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{t: t, dir: filepath.Join(t.TempDir(), "cache")}
	t.Cleanup(func() { p.close() })
	p.open(3*size, "")
	return p
}

func (p *place) open(limit int64, images string) {
	p.t.Helper()
	p.close()
	c, err := Open(p.dir, limit, images)
	if err != nil {
		p.t.Fatal(err)
	}
	p.cache = c
}

func (p *place) close() {
	if p.cache != nil {
		if err := p.cache.Close(); err != nil {
			p.t.Error(err)
		}
		p.cache = nil
	}
}

func (p *place) get(ctx context.Context, letter string) (path string, release func(), err error) {
	f, data := image(letter)
	return p.cache.Get(ctx, f, func(_ context.Context, at int64) (io.ReadCloser, error) {
		p.calls.Add(1)
		p.fetched = append(p.fetched, letter+map[bool]string{true: " from its start", false: " on"}[at == 0])
		end := len(data)
		if p.faults > 0 {
			p.faults--
			end = min(end, int(at)+size/3)
		}
		if p.other {
			return io.NopCloser(bytes.NewReader(make([]byte, size))), nil
		}
		return io.NopCloser(bytes.NewReader(data[at:end])), nil
	})
}

// use gets an image and releases it.
func (p *place) use(letters ...string) {
	p.t.Helper()
	for _, letter := range letters {
		path, release, err := p.get(p.t.Context(), letter)
		if err != nil {
			p.t.Fatal(letter, err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != strings.Repeat(letter, size) {
			p.t.Errorf("%s: another image, %v", letter, err)
		}
		release()
	}
}

// files returns the letters of the images that are there.
func (p *place) files() string {
	p.t.Helper()
	all, err := filepath.Glob(filepath.Join(p.dir, "*.img"))
	if err != nil {
		p.t.Fatal(err)
	}
	var letters []string
	for _, file := range all {
		data, err := os.ReadFile(file)
		if err != nil {
			p.t.Fatal(err)
		}
		letters = append(letters, string(data[:1]))
	}
	slices.Sort(letters)
	return strings.Join(letters, "")
}

func (p *place) want(files string, fetched ...string) {
	p.t.Helper()
	if got := p.files(); got != files || !slices.Equal(p.fetched, fetched) {
		p.t.Errorf("has %s, want %s; fetched %q, want %q", got, files, p.fetched, fetched)
	}
}

// An image is fetched once, and those that were not used for longest go.
func TestRoom(t *testing.T) {
	p := newPlace(t)
	p.use("a", "b", "c", "a")
	p.want("abc", "a from its start", "b from its start", "c from its start")
	p.use("d")
	p.want("acd", "a from its start", "b from its start", "c from its start", "d from its start")
	_, release, err := p.get(t.Context(), "c") // and it stays
	if err != nil {
		t.Fatal(err)
	}
	p.fetched = nil
	p.use("a", "d", "e", "f")
	p.want("cef", "e from its start", "f from its start")
	p.open(size, "")
	if err := p.cache.Close(); err != nil {
		t.Error(err)
	}
	release()
	p.cache = nil
	p.open(2*size, "")
	p.fetched = nil
	p.use("f") // which is there
	p.use("g")
	p.want("fg", "g from its start")
	f, _ := image("f")
	if !p.cache.Holds(f.BLAKE3.String()[:16]) || p.cache.Holds("0123456789abcdef") {
		t.Error("another one is held")
	}
}

// Images in use stay, so another one may find no room.
func TestNoRoom(t *testing.T) {
	p := newPlace(t)
	p.open(2*size, "")
	_, first, err := p.get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	_, second, err := p.get(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.get(t.Context(), "c"); err == nil || !strings.Contains(err.Error(), "--cache-size") {
		t.Errorf("a third: %v", err)
	}
	first()
	p.use("c")
	p.want("bc", "a from its start", "b from its start", "c from its start")
	second()
}

// What arrives goes on where it stopped, in this process and in the next.
func TestResume(t *testing.T) {
	p := newPlace(t)
	p.faults = 2
	p.use("a")
	p.want("a", "a from its start", "a on", "a on")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := p.get(ctx, "b"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	f, data := image("c")
	if err := os.WriteFile(filepath.Join(p.dir, f.BLAKE3.String()+part), data[:size/2], 0o666); err != nil {
		t.Fatal(err)
	}
	p.fetched = nil
	p.use("c")
	p.want("ac", "c on")
}

// An image that is damaged on the disk, or on its way, is fetched again, and never used.
func TestDamaged(t *testing.T) {
	p := newPlace(t)
	p.use("a")
	f, data := image("a")
	data[7]++
	if err := os.WriteFile(filepath.Join(p.dir, f.BLAKE3.String()+ext), data, 0o666); err != nil {
		t.Fatal(err)
	}
	p.open(3*size, "") // it is read once in each process
	p.use("a")
	p.want("a", "a from its start", "a from its start")
	if err := os.WriteFile(filepath.Join(p.dir, strings.Repeat("0", 64)+part), data, 0o666); err != nil {
		t.Fatal(err)
	}
	p.other = true
	if _, _, err := p.get(t.Context(), "b"); !errors.Is(err, errDamaged) {
		t.Errorf("another image arrives: %v", err)
	}
	p.other = false
	if p.use("b"); p.files() != "ab" {
		t.Error(p.files())
	}
}

// Images that are shared with the builder are used where they lie, if they are right.
func TestShared(t *testing.T) {
	p := newPlace(t)
	images := t.TempDir()
	_, a := image("a")
	wrong := bytes.Clone(a)
	wrong[3]++
	if err := errors.Join(os.WriteFile(filepath.Join(images, "0.img"), wrong, 0o666), os.WriteFile(filepath.Join(images, "1.img"), a, 0o666), os.Mkdir(filepath.Join(images, "2.img"), 0o777)); err != nil {
		t.Fatal(err)
	}
	p.open(size, images)
	_, release, err := p.get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	p.use("a", "b") // there is room for b, as a is not here
	release()
	p.want("b", "b from its start")
	if err := os.RemoveAll(images); err != nil {
		t.Fatal(err)
	}
	p.open(size, images)
	p.use("a")
	p.want("a", "b from its start", "a from its start")
}

// An image that is removed or changed while the worker runs is not taken for the one that was read,
// wherever it lies and whether it is in use; where the same bytes are found, it is not fetched.
func TestChanged(t *testing.T) {
	f, a := image("a")
	wrong := bytes.Clone(a)
	wrong[3]++
	for name, c := range map[string]struct {
		change  func(path string) error
		fetches bool
	}{
		"nothing":      {func(string) error { return nil }, false},
		"removed":      {os.Remove, true},
		"replaced":     {func(path string) error { return errors.Join(os.Remove(path), os.WriteFile(path, wrong, 0o666)) }, true},
		"written":      {func(path string) error { return os.WriteFile(path, wrong, 0o666) }, true},
		"cut short":    {func(path string) error { return os.Truncate(path, size/2) }, true},
		"another time": {func(path string) error { return os.Chtimes(path, time.Time{}, time.Unix(1, 0)) }, false},
	} {
		for _, shared := range []bool{false, true} {
			for _, inUse := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, shared %t, in use %t", name, shared, inUse), func(t *testing.T) {
					p := newPlace(t)
					images := filepath.Dir(p.dir)
					at := filepath.Join(p.dir, f.BLAKE3.String()+ext)
					if shared {
						at = filepath.Join(images, "a.img")
					}
					if err := errors.Join(os.WriteFile(at, a, 0o666), os.Chtimes(at, time.Time{}, time.Unix(1000, 0))); err != nil {
						t.Fatal(err)
					}
					p.open(size, images) // there is room for one
					path, release, err := p.get(t.Context(), "a")
					if err != nil || path != at {
						t.Fatal(path, err)
					}
					if inUse {
						defer release()
					} else {
						release()
					}
					if err := c.change(path); err != nil {
						t.Fatal(err)
					}
					p.use("a", "a")
					if got := len(p.fetched) == 1; got != c.fetches || len(p.fetched) > 1 {
						t.Errorf("fetched %q", p.fetched)
					}
				})
			}
		}
	}
}

// A name is made once, and again only where it is damaged.
func TestName(t *testing.T) {
	check := func(name string) error {
		if name != "first" && name != "second" {
			return errors.New("a bad name")
		}
		return nil
	}
	write := func(text string) func(string) error {
		return func(path string) error { return os.WriteFile(path, []byte(text), 0o666) }
	}
	for name, c := range map[string]struct {
		change func(path string) error
		want   string
	}{
		"kept":        {func(string) error { return nil }, "first"},
		"removed":     {os.Remove, "second"},
		"empty":       {write(""), "second"},
		"cut short":   {write("first"), "second"},
		"a bad one":   {write("fir st\n"), "second"},
		"a large one": {write(strings.Repeat("first\n", maxName)), "second"},
		"a link":      {func(path string) error { return errors.Join(os.Remove(path), os.Symlink("lock", path)) }, "second"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			named := func(fresh string) string {
				got, err := p.cache.Name(check, func() string { return fresh })
				if err != nil {
					t.Error(err)
				}
				return got
			}
			if got := named("first"); got != "first" {
				t.Errorf("got %q", got)
			}
			if err := c.change(filepath.Join(p.dir, "name")); err != nil {
				t.Fatal(err)
			}
			p.open(3*size, "")
			p.use("a", "b", "c", "d") // which makes room
			if got := named("second"); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			p.open(3*size, "")
			if got := named("third"); got != c.want {
				t.Errorf("got %q after that, want %q", got, c.want)
			}
		})
	}
	p := newPlace(t)
	if err := os.Mkdir(filepath.Join(p.dir, "name"), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := p.cache.Name(check, func() string { return "first" }); err == nil {
		t.Error("a directory is a name")
	}
}

// One worker at a time has a cache, and its directory must be one.
func TestOpen(t *testing.T) {
	p := newPlace(t)
	if _, err := Open(p.dir, size, ""); !errors.Is(err, lockfile.ErrHeld) {
		t.Errorf("twice: %v", err)
	}
	if _, err := Open(filepath.Join(p.dir, "lock"), size, ""); err == nil {
		t.Error("a file is a cache")
	}
	if _, err := Open(filepath.Join(p.dir, "a", "b"), size, ""); err == nil {
		t.Error("a directory is made in none")
	}
}
