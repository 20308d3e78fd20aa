package imagerepo

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

// oneFails runs a build of which the series of these images fails and others do not.
func (p *place) oneFails() {
	p.t.Helper()
	_, _, err := Build(p.t.Context(), p.Options)
	failed, ok := errors.AsType[*SeriesError](err)
	if !ok || failed.Built != 1 || len(failed.Failed) != 1 {
		p.t.Errorf("%v, want one series of two that fails", err)
	}
	p.valid()
}

// put writes a file of the mirror.
func (p *place) put(file string, data []byte) {
	p.t.Helper()
	path := filepath.Join(p.MirrorDir, filepath.FromSlash(file))
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, data, 0o666)); err != nil {
		p.t.Fatal(err)
	}
}

// when calls do before a change of the next run.
func (p *place) when(kind atomicfile.Kind, to string, do func()) (stop func()) {
	return atomicfile.Observe(p.MirrorDir, func(c atomicfile.Change) error {
		if c.Kind == kind && c.To == to {
			do()
		}
		return nil
	})
}

// ofSomebody puts a copy of an image into the mirror that is known as somebody's, as
// earlier versions of the program knew all copies.
func (p *place) ofSomebody(image string) {
	p.t.Helper()
	os.Remove(filepath.Join(p.MirrorDir, image))
	p.put(image, p.read(image))
	info, err := os.Stat(filepath.Join(p.MirrorDir, image))
	if err != nil {
		p.t.Fatal(err)
	}
	m, err := mirror.Open(p.MirrorDir, false, p.Log)
	if err != nil {
		p.t.Fatal(err)
	}
	records, _, err := m.State.Load()
	record := records[image]
	record.Placed, record.Copy = false, state.StampOf(info)
	if err := errors.Join(err, m.State.Put(image, record), m.Close()); err != nil {
		p.t.Fatal(err)
	}
}

// A copy of somebody's is not taken for the image that has its name since, however
// often that is tried.
func TestForeignCopyOfAnotherImage(t *testing.T) {
	p := newPlace(t, image3, image4)
	p.build()
	p.ofSomebody(image4)
	p.build()
	p.write(image4, p.read(other))
	for range 2 {
		if _, _, err := Build(t.Context(), p.Options); !errors.Is(err, mirror.ErrForeign) {
			t.Errorf("%v, want that the file is not the tool's own", err)
		}
		p.valid()
	}
}

// A copy of an image that somebody has put into the mirror is the tool's own from then on,
// and a link where that can be: it leaves the mirror with the image. What a record says
// is somebody's, and a link of his to the image, stay.
func TestCopyOfImage(t *testing.T) {
	link := func(p *place) {
		file := filepath.Join(p.MirrorDir, image4)
		if err := errors.Join(os.Remove(file), os.Link(filepath.Join(p.ImageDir, image4), file)); err != nil {
			p.t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		change func(p *place)
		links  uint64
		taken  bool
	}{
		{"a copy before the first run", func(*place) {}, 2, true},
		{"a copy of an image that was a base", func(p *place) {
			os.Remove(filepath.Join(p.MirrorDir, image4))
			p.Config = plan.Config{Series: []meta.SeriesConfig{{Name: "release", Images: names(image2, image3), Extra: map[meta.Name][]meta.Name{name(image3): names(image4)}}}}
			p.build()
			p.put(image4, p.read(image4))
			p.Config = plan.Config{}
		}, 2, true},
		{"a run that ended when the image was read", func(p *place) {
			ctx, cancel := context.WithCancel(p.t.Context())
			defer cancel()
			stop := p.when(atomicfile.Rename, mirror.StateDir+"/"+image4+".json", cancel)
			defer stop()
			if _, _, err := Build(ctx, p.Options); !errors.Is(err, context.Canceled) {
				p.t.Errorf("not cancelled: %v", err)
			}
		}, 2, true},
		{"a copy where no link can be", func(p *place) {
			p.MirrorDir = filepath.Join(testdata.SmallDisk(p.t, 16<<20), "mirror")
			p.put(image4, p.read(image4))
		}, 1, true},
		{"a copy that an earlier version has found", func(p *place) { p.build(); p.ofSomebody(image4) }, 1, false},
		{"such a copy that was touched", func(p *place) {
			p.build()
			p.ofSomebody(image4)
			os.Chtimes(filepath.Join(p.MirrorDir, image4), time.Time{}, time.Now().Add(time.Second))
		}, 1, false},
		{"a link", link, 2, false},
		{"a link to an image that was copied again", func(p *place) { link(p); p.build(); p.add(image4) }, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, image2, image3, image4)
			p.put(image4, p.read(image4))
			c.change(p)
			p.build()
			info, err := os.Stat(filepath.Join(p.MirrorDir, image4))
			if err != nil || info.Sys().(*syscall.Stat_t).Nlink != c.links {
				t.Errorf("%+v, %v; want %d links", info.Sys(), err, c.links)
			}
			if s := p.build(); s.Changed {
				t.Errorf("another run changes something: %+v", s)
			}
			p.remove(image4)
			if p.build(); p.there(image4) == c.taken {
				t.Errorf("it left, and is there: %v", !c.taken)
			}
		})
	}
}

// A copy in the mirror is not taken for an image that was read since, where the run
// ended before the copy was replaced.
func TestCopyOfAnotherImage(t *testing.T) {
	p := newPlace(t, image3, image4)
	p.MirrorDir = filepath.Join(testdata.SmallDisk(t, 16<<20), "mirror")
	p.build()
	data := p.read(image4)
	data[len(data)/2]++
	p.write(image4, data)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stop := p.when(atomicfile.Rename, mirror.StateDir+"/"+image4+".json", cancel) // as it was read
	_, _, err := Build(ctx, p.Options)
	if stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("not cancelled: %v", err)
	}
	p.build()
}

// What takes the place of a right file in the mirror is right too, whatever becomes of
// the image meanwhile.
func TestTakenOverWhileItChanges(t *testing.T) {
	for name, change := range map[string]func(p *place, file string) error{
		"touched": func(_ *place, file string) error { return os.Chmod(file, 0o600) },
		"gone":    func(_ *place, file string) error { return os.Remove(file) },
		"overwritten": func(p *place, file string) error {
			data := p.read(image4)
			data[len(data)/2]++
			return os.WriteFile(file, data, 0o666)
		},
	} {
		p := newPlace(t, image3, image4, other)
		p.build()
		os.RemoveAll(filepath.Join(p.MirrorDir, mirror.Private))
		for _, f := range []string{image3, image4, other} { // as copies of the predecessor
			os.Remove(filepath.Join(p.MirrorDir, f))
			p.put(f, p.read(f))
		}
		stop := p.when(atomicfile.LinkFrom, mirror.TmpPath(image3), func() {
			if err := change(p, filepath.Join(p.ImageDir, image4)); err != nil {
				t.Error(name, err)
			}
		})
		p.oneFails()
		stop()
	}
}

// What has an image's name in the mirror and is no file stays, and stops its own series
// alone.
func TestNoFileInTheWay(t *testing.T) {
	for name, put := range map[string]func(p *place, file string) error{
		"a link":          func(p *place, file string) error { return os.Symlink(filepath.Join(p.ImageDir, image4), file) },
		"a dangling link": func(_ *place, file string) error { return os.Symlink("nowhere", file) },
		"a pipe":          func(_ *place, file string) error { return syscall.Mkfifo(file, 0o666) },
		"a directory":     func(_ *place, file string) error { return os.Mkdir(file, 0o777) },
	} {
		p := newPlace(t, image3, image4, other)
		file := filepath.Join(p.MirrorDir, image4)
		if err := errors.Join(os.MkdirAll(p.MirrorDir, 0o777), put(p, file)); err != nil {
			t.Fatal(err)
		}
		before, _ := os.Lstat(file)
		p.oneFails()
		if after, err := os.Lstat(file); err != nil || after.Mode() != before.Mode() {
			t.Errorf("%s: %v, %v", name, after, err)
		}
	}
}

// An image directory that is a symbolic link is one, when an image leaves it too.
func TestLinkedImageDir(t *testing.T) {
	p := newPlace(t, image3, image4, other)
	real := p.ImageDir
	p.ImageDir = filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(real, p.ImageDir); err != nil {
		t.Fatal(err)
	}
	stop := p.when(atomicfile.LinkFrom, mirror.TmpPath(image4), func() { os.Remove(filepath.Join(real, image4)) })
	defer stop()
	p.oneFails()
}

// Images that are links of one file are taken over from copies.
func TestTakeOverLinksOfOneFile(t *testing.T) {
	p := newPlace(t, image4)
	twins := []string{image1, image2, image3, other}
	for _, f := range twins {
		if err := os.Link(filepath.Join(p.ImageDir, image4), filepath.Join(p.ImageDir, f)); err != nil {
			t.Fatal(err)
		}
	}
	p.Jobs = 4
	p.build()
	os.RemoveAll(filepath.Join(p.MirrorDir, mirror.Private))
	for _, f := range append(twins, image4) {
		os.Remove(filepath.Join(p.MirrorDir, f))
		p.put(f, p.read(image4))
	}
	p.build()
	if s := p.build(); s.Changed {
		t.Errorf("another run changes something: %+v", s)
	}
}

// An image that is touched while it is compared stays published.
func TestTouchedWhileCompared(t *testing.T) {
	p := newPlace(t, image3, image4)
	p.build()
	path := filepath.Join(p.ImageDir, image4)
	os.Chmod(path, 0o600)
	var once sync.Once
	p.Progress = func(int64, int64) { once.Do(func() { os.Chmod(path, 0o644) }) }
	if _, _, err := Build(t.Context(), p.Options); !errors.Is(err, ErrChanged) {
		t.Errorf("%v, want ErrChanged", err)
	}
	if _, ok := p.published(image4); !ok {
		t.Error("the image is withdrawn, though its bytes are what they were")
	}
}

// A delta of somebody's is published if it is right and wanted, and never removed.
func TestForeignDelta(t *testing.T) {
	p := newPlace(t, image3, image4)
	p.build()
	d := meta.DeltaPath(meta.DeltaName(name(image3), name(image4)))
	data, err := os.ReadFile(filepath.Join(p.MirrorDir, d))
	if err != nil {
		t.Fatal(err)
	}
	for ratio, published := range map[float64]bool{0.9: true, 0.0001: false} {
		q := newPlace(t, image3, image4)
		q.Policy.MaxRatio, q.AllowRemoval = ratio, true
		q.put(d, data)
		q.build()
		im, _ := q.published(image4)
		if _, ok := im.Diff(name(image3)); ok != published || !q.there(d) {
			t.Errorf("ratio %v: published %v, there %v", ratio, ok, q.there(d))
		}
		q.remove(image3)
		if q.build(); !q.there(d) {
			t.Errorf("ratio %v: the delta is removed", ratio)
		}
	}
}

// A delta that one series drops stays as long as one that failed names it.
func TestSharedDeltaIsDropped(t *testing.T) {
	p := newPlace(t, image2, image3, image4)
	p.Config = plan.Config{Series: []meta.SeriesConfig{
		{Name: "devel", Images: names(image2, image3, image4)}, {Name: "release", Images: names(image3, image4)},
	}}
	p.build()
	p.write(image2, nil)
	p.Policy.MaxRatio = 0.0001
	p.oneFails()
}

// What a series that failed still names is no orphan.
func TestOrphanOfFailedSeries(t *testing.T) {
	p := newPlace(t, image2, image3, image4)
	p.build()
	p.Policy.Grace = time.Hour
	p.add(other)
	p.remove(image2)
	p.put(image1, p.read(image2)) // in the way, and of the size of the image
	p.add(image1)
	p.oneFails()
	if _, ok := p.published(image2); !ok {
		t.Error("not published")
	}
	data, err := os.ReadFile(filepath.Join(p.MirrorDir, mirror.StateDir, image2+".json"))
	if err != nil || strings.Contains(string(data), `"unnamed"`) {
		t.Errorf("%s, %v", data, err)
	}
}

// What is published was flushed: an image that was rewritten with the same content, and
// one that was a base only.
func TestPublishedIsFlushed(t *testing.T) {
	p := newPlace(t, image2, image3, image4)
	p.Config = plan.Config{Series: []meta.SeriesConfig{
		{Name: "release", Images: names(image3, image4), Extra: map[meta.Name][]meta.Name{name(image4): names(image2)}},
	}}
	p.build()
	var mu sync.Mutex
	flushed := map[string]bool{}
	stop := atomicfile.Observe(p.MirrorDir, func(c atomicfile.Change) error {
		mu.Lock()
		defer mu.Unlock()
		flushed[c.Name] = flushed[c.Name] || c.Kind == atomicfile.Flush
		return nil
	})
	defer stop()
	if err := os.WriteFile(filepath.Join(p.ImageDir, image4), p.read(image4), 0o666); err != nil { // in place
		t.Fatal(err)
	}
	p.Config.Series[0].Images = names(image2, image3, image4)
	p.build()
	for _, f := range []string{image2, image4} {
		if !flushed[f] {
			t.Errorf("%s is published and was not flushed", f)
		}
	}
}

// What is taken over as asked for is removed when it leaves.
func TestAdoptOwnsWhatIsKept(t *testing.T) {
	p := newPlace(t, image3, image4)
	p.build()
	p.ofSomebody(image4)
	p.build()
	p.Adopt = true
	p.build()
	p.Adopt, p.AllowRemoval = false, true
	p.remove(image4)
	if p.build(); p.there(image4) {
		t.Error("adopted, and not removed")
	}
}

// However many deltas are withdrawn at a time, there is one signing at a time.
func TestOneSigningAtATime(t *testing.T) {
	p := newPlace(t, image1, image2, image3, image4)
	p.Jobs = 4
	p.build()
	for _, f := range testGlob(t, filepath.Join(p.MirrorDir, "rdiffs", "*")) {
		os.WriteFile(f, []byte("rs\x026\x00"), 0o666)
	}
	p.Effort = "best" // and so other deltas than those that are named
	var at, most atomic.Int32
	p.Sign = func(context.Context, atomicfile.Dir) (bool, error) {
		n := at.Add(1)
		defer at.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(5 * time.Millisecond)
		return false, nil
	}
	if p.build(); most.Load() != 1 {
		t.Errorf("%d signings at once", most.Load())
	}
}

// A file that appears in the mirror while a run works is left alone, by the next run
// too.
func TestFileThatAppears(t *testing.T) {
	const text = "of the administrator"
	p := newPlace(t, image3, image4, other)
	p.build()
	p.add(image2)
	stop := p.when(atomicfile.Link, image2, func() { p.put(image2, []byte(text)) })
	p.oneFails()
	stop()
	p.oneFails()
	if b, _ := os.ReadFile(filepath.Join(p.MirrorDir, image2)); string(b) != text {
		t.Error("the file was replaced")
	}
}

// A failed series that names a delta that is gone keeps no other from being built.
func TestFailedSeriesLacksDelta(t *testing.T) {
	p := newPlace(t, image3, image4, other)
	p.NoSync = true
	p.build()
	p.NoSync = false
	os.Remove(filepath.Join(p.MirrorDir, "rdiffs", meta.DeltaName(name(image3), name(image4))))
	p.write(image2, nil)
	p.oneFails()
}

// A series of which an image cannot be put into the mirror stays as it was, its other
// images too.
func TestNothingOfFailedSeriesIsReplaced(t *testing.T) {
	for _, strict := range []bool{false, true} {
		p := newPlace(t, image3, image4, other)
		p.build()
		p.put(image2, []byte("mine"))
		before := p.tree()
		p.Strict = strict
		p.write(image3, p.read(other))
		p.add(image2)
		if _, _, err := Build(t.Context(), p.Options); err == nil {
			t.Errorf("strict %v: no error", strict)
		}
		if after := p.tree(); after != before {
			t.Errorf("strict %v: the mirror was\n%s\nand is\n%s", strict, before, after)
		}
	}
}

// Where documents are lost, and the image directory is the wrong one, nothing goes.
func TestLostDocuments(t *testing.T) {
	for _, lost := range []string{"meta/" + name(image3).Series() + ".json", "meta"} {
		p := newPlace(t, image2, image3, image4)
		p.build()
		os.RemoveAll(filepath.Join(p.MirrorDir, lost))
		for _, f := range []string{image2, image3, image4} {
			p.remove(f)
		}
		p.add(other)
		if _, _, err := Build(t.Context(), p.Options); !errors.Is(err, plan.ErrRemoval) || !p.there(image3) {
			t.Errorf("%s is lost: %v", lost, err)
		}
	}
}
