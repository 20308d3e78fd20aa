package imagerepo

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirror"
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
