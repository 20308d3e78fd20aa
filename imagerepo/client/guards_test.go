package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/imagerepo/internal/diskspace"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

const page = 4096

// Exactly as much room as an image takes is enough for Apply.
func TestApplyExactRoom(t *testing.T) {
	p := newPlace(t, chain1)
	buildMirrors()
	size := int64(len(imageData(chain2)))
	disk := newPlaceIn(t, testdata.SmallDisk(t, int(size)+16*page))
	dir := must(atomicfile.Open(disk.dir))
	defer dir.Close()
	filler := must(diskspace.Free(dir)) - size
	o := client.ApplyOptions{
		Base: filepath.Join(p.dir, chain1), Deltas: []string{filepath.Join(mirrorDir("chain"), deltaFile(chain1, chain2))},
		Out: filepath.Join(disk.dir, "new.img"),
	}
	disk.write("filler", make([]byte, filler+page))
	if err := client.Apply(t.Context(), o); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "are free; make room") {
		t.Errorf("with a page too little: %v", err)
	}
	disk.write("filler", make([]byte, filler))
	if err := client.Apply(t.Context(), o); err != nil {
		t.Errorf("with exactly enough: %v", err)
	}
}

// Exactly as much room as an image takes is enough for an update to begin with it.
// What it writes besides fills the disk later.
func TestUpdateExactRoom(t *testing.T) {
	size := len(imageData(chain3))
	p := newPlaceIn(t, testdata.SmallDisk(t, 2*size+64*page), chain2)
	filler := 40 * page
	tooLittle := func(err error) (need, free int) {
		t.Helper()
		var before string
		if err != nil {
			_, before, _ = strings.Cut(err.Error(), "it needs ")
		}
		fmt.Sscanf(before, "%d bytes more, and %d are free", &need, &free)
		return need, free
	}
	p.write("filler", make([]byte, size+filler))
	_, err := p.update(access["directory"](t, "chain"), "")
	need, free := tooLittle(err)
	if !errors.Is(err, syscall.ENOSPC) || need != size {
		t.Fatalf("with too little: %v", err)
	}
	exact := size + filler - (need - free)
	p.write("filler", make([]byte, exact+page))
	if _, err = p.update(access["directory"](t, "chain"), ""); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("with a page too little: %v", err)
	} else if _, free := tooLittle(err); free != need-page {
		t.Errorf("%d are free, want %d: %v", free, need-page, err)
	}
	p.write("filler", make([]byte, exact))
	if _, err = p.update(access["directory"](t, "chain"), ""); err == nil {
		t.Error("there is room for more than the image")
	} else if need, _ := tooLittle(err); need != 0 {
		t.Errorf("with exactly enough: %v", err)
	}
}

// A whole image on the way to another is one to start from for the next run, which
// need not read it to know that.
func TestStopsBetweenDeltas(t *testing.T) {
	first, second := deltaFile(chain1, chain2), deltaFile(chain2, chain3)
	ctx, cancel := context.WithCancel(t.Context())
	s := newSite(t, "chain", func(path string) fault {
		if path == second && ctx.Err() == nil {
			return func(http.ResponseWriter, []byte) { cancel(); panic(http.ErrAbortHandler) }
		}
		return nil
	})
	p := newPlace(t, chain1)
	if _, err := client.Update(ctx, p.options(s.URL, "")); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if !p.knows(chain2 + ".tmp") {
		t.Error("the image on the way is not in the digest cache")
	}
	o := p.options(s.URL, "")
	if plan, err := client.NewPlan(t.Context(), o); err != nil || plan.Candidates[0].String() != from(chain2) {
		t.Errorf("planned %+v, %v", plan, err)
	}
	result, err := client.Update(t.Context(), o)
	if err != nil || result.Route.String() != from(chain2) {
		t.Errorf("by %s, %v", result.Route, err)
	}
	if n := len(slices.DeleteFunc(s.asked(), func(path string) bool { return path != first })); n != 1 {
		t.Errorf("the first delta was fetched %d times", n)
	}
	p.want(map[string]string{chain1: string(imageData(chain1)), chain3: string(imageData(chain3))})
}

// No image is made that is older than a local one of its series, whatever the
// default image is; one of another series does not count.
func TestNewerThanDefault(t *testing.T) {
	for _, c := range []struct {
		name     string
		newest   string // of the directory
		upToDate bool
	}{
		{"of the series", image4, true},
		{"of another series", other, false},
	} {
		p := newPlace(t, image1, c.newest)
		if err := os.Link(filepath.Join(p.dir, image1), filepath.Join(p.dir, defaultLink)); err != nil {
			t.Fatal(err)
		}
		o := p.options(access["directory"](t, "early"), "") // which has no newer one than image2
		o.DefaultLink = defaultLink
		plan, err := client.NewPlan(t.Context(), o)
		if err != nil || plan.UpToDate != c.upToDate {
			t.Errorf("%s: planned %+v, %v", c.name, plan, err)
		}
		result, err := client.Update(t.Context(), o)
		if err != nil || result.UpToDate != c.upToDate || result.Made == c.upToDate {
			t.Errorf("%s: %+v, %v", c.name, result, err)
		}
	}
}

// What has the name of the wanted image and is no regular file is not that image. A
// link is replaced, and not followed.
func TestIrregularTarget(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(path string) error
		says string // "": the image is made
	}{
		{"a symbolic link to a right image", func(path string) error { return os.Symlink("elsewhere", path) }, ""},
		{"a pipe", func(path string) error { return syscall.Mkfifo(path, 0o666) }, ""},
		{"a directory", func(path string) error { return os.MkdirAll(filepath.Join(path, "x"), 0o777) }, "exists"},
	} {
		p := newPlace(t, image3)
		p.write("elsewhere", imageData(image4))
		path := filepath.Join(p.dir, image4)
		if err := c.make(path); err != nil {
			t.Fatal(err)
		}
		result, err := p.update(access["directory"](t, "all"), "")
		if c.says != "" {
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %+v, %v", c.name, result, err)
			}
			continue
		}
		if err != nil || !result.Made {
			t.Errorf("%s: %+v, %v", c.name, result, err)
		}
		if info := must(os.Lstat(path)); !info.Mode().IsRegular() {
			t.Errorf("%s: %s is left", c.name, info.Mode())
		}
		if p.log.Len() > 0 {
			t.Errorf("%s: warnings: %s", c.name, &p.log)
		}
		if string(must(os.ReadFile(filepath.Join(p.dir, "elsewhere")))) != string(imageData(image4)) {
			t.Errorf("%s: the file elsewhere was changed", c.name)
		}
	}
}

// Old images of a series are those that the mirror lists in it, and those whose names
// say so; no others are removed.
func TestKeep(t *testing.T) {
	const (
		unlisted  = "puavo-os-free-buster-2019-01-01-000000-amd64.img" // by its name, of the series of other
		unrelated = "unrelated-2018-01-01-000000-amd64.img"
	)
	source, mirror := newPlace(t, image1, other), t.TempDir()
	_, _, err := imagerepo.Build(t.Context(), imagerepo.Options{
		ImageDir: source.dir, MirrorDir: mirror, NoSync: true, Jobs: 2, Log: slog.New(slog.DiscardHandler),
		Config: plan.Config{Series: []meta.SeriesConfig{{Name: "mixed", Images: []meta.Name{name(image1), name(other)}}}},
		Policy: plan.Policy{Targets: 1, MaxRatio: 0.95},
	})
	if err != nil {
		t.Fatal(err)
	}
	for keep, want := range map[int][]string{
		0: nil,
		1: {unlisted, image1},
		2: {unlisted},
		3: nil,
	} {
		p := newPlace(t, image1, other)
		p.write(unlisted, []byte("an old image"))
		p.write(unrelated, []byte("of another system"))
		o := p.options(mirror, other)
		o.Keep = keep
		result, err := client.Update(t.Context(), o)
		var removed []string
		for _, n := range result.Removed {
			removed = append(removed, n.String())
		}
		if err != nil || !slices.Equal(removed, want) {
			t.Errorf("keep %d: removed %q, %v; want %q", keep, removed, err, want)
		}
		if _, err := os.Stat(filepath.Join(p.dir, unrelated)); err != nil {
			t.Errorf("keep %d: %v", keep, err)
		}
	}
}
