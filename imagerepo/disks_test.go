package imagerepo

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/testdata"
)

// Images on a read-only file system, which flushes nothing, are built like others.
func TestImagesOnSquashfs(t *testing.T) {
	p := newPlace(t, image3, image4)
	want := func() string { p.build(); return p.tree() }()
	p.ImageDir, p.MirrorDir = testdata.Squashfs(t, p.ImageDir), p.MirrorDir+"2"
	if p.build(); p.tree() != want {
		t.Errorf("got\n%s\nwant\n%s", p.tree(), want)
	}
	if s := p.build(); s.Changed {
		t.Errorf("another run changes something: %+v", s)
	}
}

// A file system that flushes no directory, or no file that is only read, can have a
// mirror. One that does not flush what is written cannot.
func TestRefusedFlush(t *testing.T) {
	for _, c := range []struct {
		name    string
		refuses func(c atomicfile.Change) bool
		ok      bool
	}{
		{"directories", func(c atomicfile.Change) bool { return c.Kind == atomicfile.FlushDir }, true},
		{"linked images", func(c atomicfile.Change) bool { return c.Kind == atomicfile.Flush && filepath.Ext(c.Name) == ".img" }, true},
		{"deltas that are there", func(c atomicfile.Change) bool {
			return c.Kind == atomicfile.Flush && strings.HasPrefix(c.Name, mirror.DeltaDir)
		}, true},
		{"deltas that are written", func(c atomicfile.Change) bool {
			return c.Kind == atomicfile.Flush && strings.HasSuffix(c.Name, ".rdiff") && !strings.HasPrefix(c.Name, mirror.DeltaDir)
		}, false},
	} {
		p := newPlace(t, image2, image3, image4)
		p.NoSync = true // so that the next run flushes what this one leaves
		p.build()
		p.NoSync = false
		p.remove(image2)
		p.add(image1)
		var refused atomic.Int64
		stop := atomicfile.Observe(p.MirrorDir, func(change atomicfile.Change) error {
			if !c.refuses(change) {
				return nil
			}
			refused.Add(1)
			return &fs.PathError{Op: "sync", Path: change.Name, Err: syscall.EINVAL}
		})
		_, _, err := Build(t.Context(), p.Options)
		stop()
		if refused.Load() == 0 || c.ok != (err == nil) || err != nil && !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%s: %d flushes refused, %v", c.name, refused.Load(), err)
		}
		p.valid()
	}
}

// on has a place lie on a disk.
func (p *place) on(disk string) *place {
	p.t.Helper()
	from := p.ImageDir
	p.ImageDir, p.MirrorDir = filepath.Join(disk, "images"), filepath.Join(disk, "mirror")
	if err := os.CopyFS(p.ImageDir, os.DirFS(from)); err != nil {
		p.t.Fatal(err)
	}
	return p
}

// moved moves an image of a place to another disk and leaves a symbolic link.
func (p *place) moved(image, disk string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(disk, image), p.read(image), 0o644); err != nil {
		p.t.Fatal(err)
	}
	p.remove(image)
	if err := os.Symlink(filepath.Join(disk, image), filepath.Join(p.ImageDir, image)); err != nil {
		p.t.Fatal(err)
	}
}

// roomy is the size of a disk that has room for copies of the images, and scarce that of
// one that has room for all but those, in bytes.
const (
	roomy  = 16 << 20
	scarce = 1100 << 10
)

// Places whose images cannot all be linked, and those that are copied.
var copied = []struct {
	name string
	make func(t *testing.T, size int) *place
	want []string
}{
	{"one disk", func(t *testing.T, _ int) *place {
		return newPlace(t, image3, image4).on(testdata.SmallDisk(t, roomy))
	}, nil},
	{"two disks", func(t *testing.T, size int) *place {
		p := newPlace(t, image3, image4)
		p.MirrorDir = filepath.Join(testdata.SmallDisk(t, size-600<<10), "mirror")
		return p
	}, []string{image3, image4}},
	{"two mounts of one disk", func(t *testing.T, size int) *place {
		p := newPlace(t, image3, image4).on(testdata.SmallDisk(t, size))
		if err := os.Mkdir(p.MirrorDir, 0o777); err != nil {
			t.Fatal(err)
		}
		p.ImageDir, p.MirrorDir = testdata.Bind(t, p.ImageDir), testdata.Bind(t, p.MirrorDir)
		return p
	}, []string{image3, image4}},
	{"a link to another disk", func(t *testing.T, size int) *place {
		p := newPlace(t, image3, image4).on(testdata.SmallDisk(t, size-320<<10))
		p.moved(image4, testdata.SmallDisk(t, roomy))
		return p
	}, []string{image4}},
	{"a link from another disk", func(t *testing.T, size int) *place {
		p := newPlace(t, image3, image4)
		disk := testdata.SmallDisk(t, size-320<<10)
		p.MirrorDir = filepath.Join(disk, "mirror")
		p.moved(image4, disk)
		return p
	}, []string{image3}},
	{"subvolumes", func(t *testing.T, _ int) *place {
		disk := testdata.NewDisk(t, "btrfs").Dir
		testdata.Run(t, "btrfs", "-q", "subvolume", "create", filepath.Join(disk, "images"))
		return newPlace(t, image3, image4).on(disk)
	}, nil},
}

// It is foretold which images are copied, and known before the space is judged; what is
// built is the same.
func TestCopies(t *testing.T) {
	p := newPlace(t, image3, image4)
	want := func() string { p.build(); return p.tree() }()
	for _, c := range copied {
		t.Run(c.name, func(t *testing.T) {
			p := c.make(t, roomy)
			foretold, err := MakePlan(t.Context(), p.Options)
			if err != nil {
				t.Fatal(err)
			}
			built, _, err := Build(t.Context(), p.Options)
			if err != nil || p.tree() != want {
				t.Errorf("%v, got\n%s\nwant\n%s", err, p.tree(), want)
			}
			for when, planned := range map[string]plan.Plan{"foretold": foretold, "built": built} {
				got, size := copiesOf(planned)
				if !slices.Equal(got, c.want) || planned.Estimate.Copies != size || planned.Estimate.Space < size {
					t.Errorf("%s: %+v of %v, want %v", when, planned.Estimate, got, c.want)
				}
			}
			if n := strings.Count(p.log.String(), "it is copied"); n != len(c.want) {
				t.Errorf("%d warnings: %s", n, &p.log)
			}
			if s := p.build(); s.Changed {
				t.Errorf("another run changes something: %+v", s)
			}
		})
	}
}

// copiesOf returns the images that a plan copies, and their size.
func copiesOf(p plan.Plan) (files []string, size int64) {
	for _, im := range p.Images {
		if im.Copied {
			files = append(files, im.File)
			size += im.Size
		}
	}
	return files, size
}

// A disk on which there is room for all but the copies is refused before anything is
// made, and what was tried leaves no trace.
func TestNoSpaceForCopies(t *testing.T) {
	for _, c := range copied {
		if c.want == nil {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			p := c.make(t, scarce)
			planned, s, err := Build(t.Context(), p.Options)
			if !errors.Is(err, plan.ErrSpace) || !strings.Contains(err.Error(), "for copies of images that cannot be linked there") || s.Changed || p.tree() != "" {
				t.Errorf("%v, %+v, mirror %s", err, s, p.tree())
			}
			if e := planned.Estimate; e.Space-e.Copies > e.Free {
				t.Errorf("no room for the rest either: %+v", e)
			}
			if left := testGlob(t, filepath.Join(p.MirrorDir, ".repo/tmp/*")); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			p.IgnoreSpace = true
			if _, _, err := Build(t.Context(), p.Options); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("with --ignore-space: %v", err)
			}
		})
	}
}

// Images of another owner, which a user must not link to, are copied.
func TestCopiesOfAnotherOwner(t *testing.T) {
	if data, err := os.ReadFile("/proc/sys/fs/protected_hardlinks"); os.Getuid() != 0 || err != nil || string(data) != "1\n" {
		t.Skip("needs root, and fs.protected_hardlinks")
	}
	for size, want := range map[int]error{roomy: nil, scarce: plan.ErrSpace} {
		disk := testdata.SmallDisk(t, size)
		p := newPlace(t, image3, image4).on(disk)
		own := filepath.Join(p.ImageDir, image3)
		err := errors.Join(os.Chown(own, 65534, 65534), os.Mkdir(p.MirrorDir, 0o777), os.Chmod(p.MirrorDir, 0o777),
			os.Chmod(filepath.Dir(disk), 0o755), os.Chmod(p.ImageDir, 0o755))
		if err != nil {
			t.Fatal(err)
		}
		testdata.AsNobody(func() {
			foretold, foretellErr := MakePlan(t.Context(), p.Options)
			built, _, buildErr := Build(t.Context(), p.Options)
			if foretellErr != nil || !errors.Is(buildErr, want) {
				t.Errorf("%v, %v", foretellErr, buildErr)
			}
			for when, planned := range map[string]plan.Plan{"foretold": foretold, "built": built} {
				if got, _ := copiesOf(planned); !slices.Equal(got, []string{image4}) {
					t.Errorf("%s: %v are copied", when, got)
				}
			}
		})
	}
}

// All images get their temporary names before anything else is done. An image gets its
// own once a record says whose it is, and the temporary one goes before it is flushed.
func TestOrderOfLinks(t *testing.T) {
	p := newPlace(t, image3, image4)
	var mu sync.Mutex // images are read concurrently
	var all []string
	stop := atomicfile.Observe(p.MirrorDir, func(c atomicfile.Change) error {
		mu.Lock()
		defer mu.Unlock()
		if base := path.Base(c.Name); path.Ext(base) == ".img" || c.To == mirror.StateDir+"/"+image4+".json" || path.Ext(c.To) == ".sig" {
			all = append(all, c.String())
		}
		return nil
	})
	defer stop()
	p.Jobs, p.Policy.Targets = 1, 0
	p.build()
	from, tmp := filepath.Join(p.ImageDir, image4), mirror.TmpPath(image4)
	of := slices.DeleteFunc(slices.Clone(all), func(s string) bool { return strings.Contains(s, image3) })
	want := []string{
		"link from " + from + " to " + tmp,
		"rename .repo/tmp/" + image4 + ".json to " + mirror.StateDir + "/" + image4 + ".json",
		"link " + tmp + " to " + image4,
		"remove " + tmp,
		"flush " + image4,
		"rename .repo/tmp/" + image4 + ".json to " + mirror.StateDir + "/" + image4 + ".json",
		"flush " + image4, // as after a run that is not known to have flushed
	}
	if !slices.Equal(of, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(of, "\n"), strings.Join(want, "\n"))
	}
	if !strings.HasPrefix(all[0], "link from") || !strings.HasPrefix(all[1], "link from") {
		t.Errorf("got\n%s", strings.Join(all, "\n"))
	}
}

// Temporary names that a dead run has left go, and are no change of their images.
func TestLinksOfDeadRun(t *testing.T) {
	for name, before := range map[string]func(p *place){
		"a first run": func(*place) {},
		"known images": func(p *place) {
			p.build()
			os.Remove(filepath.Join(p.MirrorDir, image4))
		},
		"images that stay": func(p *place) { p.build() },
	} {
		p := newPlace(t, image3, image4)
		before(p)
		if err := os.MkdirAll(filepath.Join(p.MirrorDir, mirror.TmpPath("")), 0o777); err != nil {
			t.Fatal(err)
		}
		for _, im := range []string{image3, image4} {
			if err := os.Link(filepath.Join(p.ImageDir, im), filepath.Join(p.MirrorDir, mirror.TmpPath(im))); err != nil {
				t.Fatal(err)
			}
		}
		p.build()
		if left := testGlob(t, filepath.Join(p.MirrorDir, ".repo/tmp/*")); len(left) > 0 {
			t.Errorf("%s: left: %v", name, left)
		}
		if s := p.build(); s.Changed {
			t.Errorf("%s: another run changes something: %+v", name, s)
		}
	}
}

// A run that ends between the temporary names and the own ones leaves neither, and the
// records of the images hold.
func TestEndsAfterLinks(t *testing.T) {
	p := newPlace(t, image2, image3, image4)
	p.build()
	want := p.tree()
	os.Remove(filepath.Join(p.MirrorDir, image4)) // known, and linked again
	stop := atomicfile.Observe(p.MirrorDir, func(c atomicfile.Change) error {
		if c.Kind == atomicfile.Link {
			return syscall.EIO
		}
		return nil
	})
	_, _, err := Build(t.Context(), p.Options)
	if stop(); !errors.Is(err, syscall.EIO) {
		t.Errorf("%v", err)
	}
	if left := testGlob(t, filepath.Join(p.MirrorDir, ".repo/tmp/*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	planned, err := MakePlan(t.Context(), p.Options)
	if err != nil {
		t.Fatal(err)
	}
	for _, im := range planned.Images {
		if im.Read {
			t.Errorf("%s is read again", im.File)
		}
	}
	if p.build(); p.tree() != want {
		t.Errorf("got\n%s\nwant\n%s", p.tree(), want)
	}
}

// After a power cut, images that share the blocks of others are there.
func TestReflinksAfterPowerCut(t *testing.T) {
	disk := testdata.NewDisk(t, "btrfs")
	testdata.Run(t, "btrfs", "-q", "subvolume", "create", filepath.Join(disk.Dir, "images"))
	p := newPlace(t, image3, image4).on(disk.Dir)
	p.build()
	want := p.tree()
	disk.Cut()
	p.MirrorDir = filepath.Join(disk.Dir, "mirror")
	if got := p.tree(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	p.valid()
}
