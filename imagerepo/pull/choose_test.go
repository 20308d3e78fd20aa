package pull

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/mirrortest"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/testdata"
)

// A run that must not be says why, and leaves the copy as it was.
func TestRefused(t *testing.T) {
	cases := []struct {
		name  string
		spoil func(p *place, o *Options)
		is    error
		says  string
	}{
		{"no source", func(_ *place, o *Options) { o.Sources = nil }, nil, "must be given"},
		{"two roots for one source", func(_ *place, o *Options) { o.Trust = []string{"a", "b"} }, nil, "2 roots to trust for 1 repositories"},
		{"a malformed glob", func(_ *place, o *Options) { o.Policy.Series = []string{"["} }, nil, "syntax error"},
		{"no upstream", func(p *place, o *Options) { o.Sources = []string{p.Dir + "/none"} }, fs.ErrNotExist, "none"},
		{"no repository", func(p *place, o *Options) { o.Sources = []string{p.Images} }, ErrInput, "has no index.json"},
		{"a malformed index", func(p *place, _ *Options) { p.Write("mirror/index.json", "x") }, ErrInput, "index.json"},
		{"a malformed meta", func(p *place, _ *Options) { p.Write("mirror/meta/"+series+".json", "{}") }, ErrInput, series},
		{"a malformed list", func(p *place, _ *Options) { p.Write("mirror/SHA256SUMS", "x\n") }, ErrInput, "SHA256SUMS"},
		{"CKSUMS of something else", func(p *place, _ *Options) { p.Write("mirror/CKSUMS", "1 2 "+image2+"\n") }, ErrInput, "CKSUMS"},
		{"a page that is not what the list says", func(p *place, _ *Options) { p.Write("mirror/index.html", "x") }, ErrInput, "index.html is not what SHA256SUMS says"},
		{"a list without an image", func(p *place, _ *Options) {
			list := p.Read("mirror/SHA256SUMS")
			kept := slices.DeleteFunc(strings.SplitAfter(string(list), "\n"), func(l string) bool { return strings.Contains(l, image2) })
			p.Write("mirror/SHA256SUMS", strings.Join(kept, ""))
		}, ErrInput, "no SHA256SUMS names " + image2},
		{"a list with another digest of an image", func(p *place, _ *Options) {
			digest := fmt.Sprintf("%x", sha256.Sum256(p.Read("mirror/"+image2)))
			p.Write("mirror/SHA256SUMS", strings.Replace(string(p.Read("mirror/SHA256SUMS")), digest, strings.Repeat("0", 64), 1))
		}, ErrInput, "SHA256SUMS and the meta differ about " + image2},
		{"an image is missing", func(p *place, _ *Options) {
			p.PutFixture(image4)
			p.Build()
			p.Must(os.Remove(filepath.Join(p.Mirror, image4)))
			p.Must(os.RemoveAll(filepath.Join(p.Mirror, "rdiffs")))
		}, ErrInput, ""},
		{"it is not signed", func(p *place, o *Options) { p.Sign(); o.Trust = []string{p.Keys.RootFile()} }, nil, "not signed"},
		{"a root that is none", func(p *place, o *Options) { p.Write("root.json", "{}"); o.Trust = []string{p.Dir + "/root.json"} }, nil, "no root to trust"},
		{"empty", (*place).empty, ErrRemoval, "no image was chosen"},
		{"a series is gone", func(p *place, _ *Options) { p.Leave(other); p.Build() }, ErrRemoval, "would lose 1 of its 4 images"},
		{"more than half are gone", func(p *place, _ *Options) { p.Leave(image2, image3, other); p.Build() }, ErrRemoval, "3 of its 4 images"},
		{"nothing is chosen", func(_ *place, o *Options) { o.Policy.Series = []string{"x"} }, ErrRemoval, "no image was chosen"},
		{"another run", func(p *place, o *Options) {
			c, err := openToChange(p.T.Context(), *o)
			p.Must(err)
			p.T.Cleanup(func() { c.close() })
		}, ErrLocked, "wait until it has finished"},
		{"the directory of a build", func(p *place, o *Options) { o.Dir = p.Mirror }, ErrDir, "made by a build"},
		{"a file", func(p *place, o *Options) { o.Dir = p.Mirror + "/" + image2 }, ErrDir, "is no directory"},
		{"too small", func(_ *place, o *Options) { o.MaxSize = 1 }, syscall.ENOSPC, "1 may be taken"},
		{"a disk that must stay empty", func(_ *place, o *Options) { o.Reserve = 1 << 60 }, syscall.ENOSPC, "may be taken"},
		{"the same repository twice", func(p *place, o *Options) { o.Sources = append(o.Sources, p.Mirror) }, ErrInput, "both have the series"},
		{"cancelled", func(*place, *Options) {}, context.Canceled, ""},
	}
	for i, c := range cases {
		if i%testdata.Scale(1, 5) > 0 {
			continue // some of them where tests are to be short
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, image1, image2, image3, other)
			p.Build()
			o := p.options()
			p.pull(o)
			before := mirrortest.Tree(t, p.Dest)
			c.spoil(p, &o)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.name == "cancelled" {
				cancel()
			}
			_, _, err := Run(ctx, o)
			if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%v, want %v with %q", err, c.is, c.says)
			}
			if _, err := MakePlan(ctx, o); err == nil && c.is != ErrLocked {
				t.Error("a plan is made")
			}
			if diff := mirrortest.Difference(mirrortest.Tree(t, p.Dest), before); diff != "" {
				t.Errorf("it changed %s", diff)
			}
		})
	}
}

// empty makes upstream a repository without series.
func (p *place) empty(*Options) {
	const index = `{"series":[]}`
	p.Write("mirror/index.json", index)
	p.Write("mirror/CKSUMS", "")
	p.Write("mirror/SHA256SUMS", fmt.Sprintf("%x  index.json\n", sha256.Sum256([]byte(index))))
	p.Must(os.RemoveAll(filepath.Join(p.Mirror, "meta")))
	p.Must(os.RemoveAll(filepath.Join(p.Mirror, "rdiffs")))
}

// What upstream has lost is permitted once, and then is no news. Of a selection it counts what
// upstream has lost, not what the copy would lose.
func TestAllowRemoval(t *testing.T) {
	t.Parallel()
	p := newPlace(t, image1, image2, image3, image4, other)
	p.Build()
	o := p.options()
	o.Policy.Images, o.Grace = 1, 0
	p.pull(o)
	p.Leave(image1, image2, image3)
	p.Build()
	if _, _, err := Run(t.Context(), o); !errors.Is(err, ErrRemoval) || !strings.Contains(err.Error(), "upstream has lost 3 of its 5 images") {
		t.Fatal(err)
	}
	o.AllowRemoval = true
	p.pull(o)
	o.AllowRemoval = false
	p.pull(o)
}

// An upstream cannot go back behind what was seen of it, and the next mirror is asked.
func TestRollback(t *testing.T) {
	t.Parallel()
	for _, selected := range []bool{false, true}[:testdata.Scale(2, 1)] {
		p := newPlace(t, image1, image2)
		p.Sign()
		p.Build()
		old := filepath.Join(p.Dir, "old")
		p.Must(os.CopyFS(old, os.DirFS(p.Mirror)))
		p.Must(os.RemoveAll(filepath.Join(old, ".repo")))
		p.PutFixture(image3)
		p.Build(func(o *imagerepo.Options) {
			o.Sign = func(ctx context.Context, dir atomicfile.Dir) (bool, error) {
				return p.Keys.SignAfter(ctx, dir, time.Now().Unix()+5)
			}
		})
		o := p.options()
		o.Trust = []string{p.Keys.RootFile()}
		o.Sources = []string{p.Mirror}
		if selected {
			o.Policy.Deltas = 1
		}
		p.pull(o)
		now := filepath.Join(p.Dir, "now")
		p.Must(os.Rename(p.Mirror, now))
		p.Must(os.Rename(old, p.Mirror))
		if _, _, err := Run(t.Context(), o); !errors.Is(err, ErrUntrusted) {
			t.Errorf("an older upstream: %v", err)
		}
		o.Sources = []string{p.Mirror + "," + now}
		if _, s := p.pull(o); s.Record.Upstreams[0].URL != now {
			t.Errorf("pulled from %+v", s.Record.Upstreams)
		}
	}
}

// A copy of all does not become one of its own, with other signatures, nor the reverse.
func TestKinds(t *testing.T) {
	t.Parallel()
	p := newPlace(t, image1, image2)
	p.Sign()
	p.Build()
	whole, own := p.options(), p.options()
	whole.Trust = []string{p.Keys.RootFile()}
	own.Policy.Deltas, own.Sign, own.Dir = 1, p.Keys, filepath.Join(p.Dir, "own")
	p.pull(whole)
	p.pull(own)
	whole.Dir, own.Dir = own.Dir, whole.Dir
	for _, o := range []Options{whole, own} {
		before := mirrortest.Tree(t, o.Dir)
		if _, _, err := Run(t.Context(), o); !errors.Is(err, ErrDir) {
			t.Errorf("%v, want ErrDir", err)
		}
		if diff := mirrortest.Difference(mirrortest.Tree(t, o.Dir), before); diff != "" {
			t.Error(diff)
		}
	}
}

// Repositories of several builders become one, signed here; clients with the root of neither
// builder update from it.
func TestMerge(t *testing.T) {
	t.Parallel()
	a, b := newPlace(t, image1, image2), newPlace(t, other)
	keys, err := mirrortest.SharedKeys()
	if testdata.Scale(2, 1) > 1 { // other keys take long to make
		a.Sign()
		keys, err = mirrortest.OtherKeys()
	}
	a.Must(err)
	a.Build()
	b.Build()
	o := a.options()
	o.Sources, o.Sign, o.URL = []string{a.Mirror, b.Mirror}, keys, "https://images.example.org"
	_, s := a.pull(o)
	if len(s.Record.Upstreams) != 2 {
		t.Errorf("%+v", s.Record)
	}
	root := keys.RootFile()
	if got, err := a.Update(a.Dest, root); err != nil || got != image2 {
		t.Errorf("a client has %q: %v", got, err)
	}
	if names := slices.Sorted(maps.Keys(mirrortest.Tree(t, a.Dest))); !slices.Contains(names, other) || !slices.Contains(names, image2) {
		t.Errorf("%q", names)
	}
	if pl, s := a.pull(o); s.Changed {
		t.Errorf("once more: %+v %+v", pl, s)
	}
	a.PutFixture(image3)
	a.Build()
	a.pull(o)
	if got, err := a.Update(a.Dest, root); err != nil || got != image3 {
		t.Errorf("a client has %q: %v", got, err)
	}
	b.PutFixture(image4)
	b.Build()
	if _, _, err := Run(t.Context(), o); !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), "both have the series") {
		t.Errorf("a series that both have: %v", err)
	}
}

// On a small disk deltas go before images, and what is new gets its room before it comes.
func TestSmallDisk(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	for i, name := range []string{image1, image2, image3} {
		p.Put(name, noise(int64(i), 3<<20))
	}
	p.Build()
	p.Dest = filepath.Join(testdata.SmallDisk(t, 14<<20), "copy")
	o := p.options()
	o.Reserve, o.Policy.Images = 2<<20, 3
	pl, _ := p.pull(o)
	if len(pl.Dropped) == 0 || !p.Has(image1) || !p.Has(image3) {
		t.Errorf("dropped %+v", pl.Dropped)
	}
	for _, d := range pl.Dropped {
		if isImage(d.File) {
			t.Errorf("dropped %s", d.File)
		}
	}
	p.Put(image4, noise(4, 3<<20))
	p.Build()
	p.pull(o)
	if !p.Has(image2) || !p.Has(image3) || !p.Has(image4) || p.Has(image1) {
		t.Errorf("it has %q", slices.Sorted(maps.Keys(mirrortest.Tree(t, p.Dest))))
	}
	// Without --reserve the run ends before it fetches.
	o.Reserve, o.Policy.Deltas = 0, All
	if _, _, err := Run(t.Context(), o); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "are free") {
		t.Errorf("%v", err)
	}
	p.Must(mirrortest.Holds(p.Dest))
}

// noise returns random bytes, of which deltas are no smaller.
func noise(seed int64, n int) []byte {
	data := make([]byte, n)
	x := uint64(seed)*0x9e3779b97f4a7c15 + 1
	for i := range data {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		data[i] = byte(x >> 32)
	}
	return data
}

// What is damaged in a copy is found as --reverify says, and got again.
func TestVerify(t *testing.T) {
	for _, c := range []struct {
		name   string
		set    func(o *Options)
		damage func(p *place)
		mended bool
	}{
		{"never, gone", func(o *Options) { o.Verify = ByName }, func(p *place) { p.Must(os.Remove(filepath.Join(p.Dest, image2))) }, true},
		{"size, shorter", func(*Options) {}, func(p *place) { p.Must(os.Truncate(filepath.Join(p.Dest, image2), 5)) }, true},
		{"size, other bytes", func(*Options) {}, flip, false},
		{"digest, other bytes", func(o *Options) { o.Verify = ByReading }, flip, true},
		{"an age that is over", func(o *Options) { o.ReadEvery = time.Nanosecond }, flip, true},
		{"an age that is not", func(o *Options) { o.ReadEvery = time.Hour }, flip, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, image1, image2)
			p.Build()
			o := p.options()
			o.Verify = ByReading
			p.pull(o)
			o.Verify = ""
			c.set(&o)
			c.damage(p)
			_, _, err := Run(t.Context(), o)
			p.Must(err)
			if mended := mirrortest.Difference(mirrortest.Tree(t, p.Dest), mirrortest.Tree(t, p.Mirror)) == ""; mended != c.mended {
				t.Errorf("mended: %v", mended)
			}
		})
	}
}

// flip changes a bit of an image of the copy.
func flip(p *place) {
	data := p.Read("dest/" + image2)
	data[len(data)/2] ^= 1
	p.Write("dest/"+image2, string(data))
}

// A build refuses the directory of a pull.
func TestBuildRefuses(t *testing.T) {
	t.Parallel()
	p := newPlace(t, image1)
	p.Build()
	p.pull(p.options())
	_, _, err := imagerepo.Build(t.Context(), imagerepo.Options{ImageDir: p.Images, MirrorDir: p.Dest, Policy: plan.Policy{}})
	if !errors.Is(err, mirror.ErrPulled) {
		t.Errorf("%v", err)
	}
}
