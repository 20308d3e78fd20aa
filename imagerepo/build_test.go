package imagerepo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/lockfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

// place is an image directory and a mirror on the disk.
type place struct {
	t   testing.TB
	log bytes.Buffer
	Options
}

// newPlace returns a place with those of the test images.
func newPlace(t testing.TB, images ...string) *place {
	p := &place{t: t, Options: Options{Policy: usual, Jobs: 2, URL: "https://images.example.org"}}
	p.Log = slog.New(slog.NewTextHandler(&p.log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	p.ImageDir = filepath.Join(t.TempDir(), "images")
	p.MirrorDir = filepath.Join(filepath.Dir(p.ImageDir), "mirror")
	if err := os.Mkdir(p.ImageDir, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, im := range images {
		p.add(im)
	}
	return p
}

// read returns a test image.
func (p *place) read(image string) []byte { return testdata.Read(p.t, "images/"+image) }

// add copies a test image into the image directory.
func (p *place) add(image string) { p.write(image, p.read(image)) }

// write replaces a file of the image directory.
func (p *place) write(file string, data []byte) {
	p.t.Helper()
	path := filepath.Join(p.ImageDir, file)
	os.Remove(path)
	if err := os.WriteFile(path, data, 0o666); err != nil {
		p.t.Fatal(err)
	}
}

// copied returns another place with copies of the images.
func (p *place) copied() *place {
	p.t.Helper()
	other := newPlace(p.t)
	if err := os.CopyFS(other.ImageDir, os.DirFS(p.ImageDir)); err != nil && !errors.Is(err, fs.ErrExist) {
		p.t.Fatal(err)
	}
	return other
}

func (p *place) remove(file string) {
	p.t.Helper()
	if err := os.Remove(filepath.Join(p.ImageDir, file)); err != nil {
		p.t.Fatal(err)
	}
}

// build builds the mirror, which must succeed.
func (p *place) build() Summary {
	p.t.Helper()
	_, s, err := Build(p.t.Context(), p.Options)
	if err != nil {
		p.t.Fatal(err)
	}
	p.valid()
	return s
}

// tree returns the public files of the mirror with their digests.
func (p *place) tree() string {
	p.t.Helper()
	var b strings.Builder
	root := os.DirFS(p.MirrorDir)
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if path == mirror.Private {
				return fs.SkipDir
			}
			return err
		}
		data, err := fs.ReadFile(root, path)
		fmt.Fprintf(&b, "%s %d %s\n", path, len(data), cksum.Digest256(sha256.Sum256(data)))
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return b.String()
}

// sumsOf returns the digests of a content.
func sumsOf(data []byte) cksum.Sums {
	h := cksum.New()
	h.Write(data)
	return h.Sums()
}

// valid checks what a client may rely on at any instant: each file that the meta
// names is there, with its digests.
func (p *place) valid() {
	p.t.Helper()
	docs, err := filepath.Glob(filepath.Join(p.MirrorDir, "meta", "*.json"))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, doc := range docs {
		data, err := os.ReadFile(doc)
		if err != nil {
			p.t.Fatal(err)
		}
		s, err := meta.ParseSeries(data)
		if err != nil {
			p.t.Errorf("%s: %v", doc, err)
		}
		for _, im := range s.Images {
			p.same(im.Name.String(), im.Sums)
			for _, d := range im.Diffs {
				p.same(meta.DeltaPath(d.Filename), d.Sums)
			}
			for _, c := range im.Compact {
				p.same(meta.CompactPath(c.Filename), c.Sums)
			}
		}
	}
}

func (p *place) same(file string, want cksum.Sums) {
	p.t.Helper()
	data, err := os.ReadFile(filepath.Join(p.MirrorDir, file))
	if err != nil {
		p.t.Errorf("the meta names what is not there: %v", err)
		return
	}
	if sumsOf(data) != want {
		p.t.Errorf("%s is not what the meta says", file)
	}
}

func TestBuild(t *testing.T) {
	p := newPlace(t, image1, image2, image3, image4, other)
	first := p.build()
	if first.Series != 2 || first.Images != 5 || first.Made != 9 || first.Kept+first.Dropped != 0 || !first.Changed {
		t.Errorf("first run: %+v", first)
	}
	want := p.tree()
	for _, f := range []string{"CKSUMS", "SHA256SUMS", "index.html", "index.json", "meta/SHA256SUMS", "rdiffs/SHA256SUMS", "meta/puavo-os-amxa-buster-amd64.json", "meta/puavo-os-free-buster-amd64.json"} {
		if !strings.Contains(want, "\n"+f+" ") && !strings.HasPrefix(want, f+" ") {
			t.Errorf("no %s in\n%s", f, want)
		}
	}
	if n := strings.Count(want, "\n"); n != 5+9+8 {
		t.Errorf("%d files, want 22:\n%s", n, want)
	}
	second := p.build()
	if second.Changed || second.Made != 0 || second.Kept != 9 || p.tree() != want {
		t.Errorf("second run: %+v", second)
	}
	for _, im := range []string{image1, other} {
		a, _ := os.Stat(filepath.Join(p.ImageDir, im))
		b, err := os.Stat(filepath.Join(p.MirrorDir, im))
		if err != nil || !os.SameFile(a, b) {
			t.Errorf("%s is not linked: %v", im, err)
		}
	}
	if p.log.Len() > 0 {
		t.Errorf("warnings: %s", &p.log)
	}
}

// Whatever happens between two runs, the second leaves the mirror that a first
// run would have made.
func TestRebuild(t *testing.T) {
	t.Parallel()
	d34 := meta.DeltaPath(meta.DeltaName(name(image3), name(image4)))
	inMirror := func(p *place, f string) string { return filepath.Join(p.MirrorDir, filepath.FromSlash(f)) }
	for _, c := range []struct {
		name   string
		change func(t *testing.T, p *place)
		made   int
		warns  string
	}{
		{"an image is new", func(t *testing.T, p *place) { p.add(other) }, 0, ""},
		{"an image left", func(t *testing.T, p *place) { p.remove(image1) }, 0, ""},
		{"an image was touched", func(t *testing.T, p *place) { p.add(image4) }, 0, ""},
		{"an image was replaced", func(t *testing.T, p *place) { p.write(image4, p.read(other)) }, 5, ""},
		{"an image was overwritten", func(t *testing.T, p *place) {
			data := p.read(image4)
			data[len(data)/2]++
			os.WriteFile(filepath.Join(p.ImageDir, image4), data, 0o666)
		}, 4, ""}, // one of its five deltas is right all the same
		{"a delta is missing", func(t *testing.T, p *place) { os.Remove(inMirror(p, d34)) }, 1, ""},
		{"a delta was damaged", func(t *testing.T, p *place) { os.WriteFile(inMirror(p, d34), []byte("rs\x026\x00"), 0o666) }, 1, ""},
		{"a delta was touched", func(t *testing.T, p *place) {
			data, _ := os.ReadFile(inMirror(p, d34))
			os.Remove(inMirror(p, d34))
			os.WriteFile(inMirror(p, d34), data, 0o666)
		}, 0, ""},
		{"an image is missing in the mirror", func(t *testing.T, p *place) { os.Remove(inMirror(p, image4)) }, 0, ""},
		{"the meta is missing", func(t *testing.T, p *place) { os.RemoveAll(inMirror(p, "meta")) }, 0, ""},
		{"the meta was damaged", func(t *testing.T, p *place) {
			os.WriteFile(inMirror(p, "meta/puavo-os-amxa-buster-amd64.json"), []byte("{"), 0o666)
		}, 0, ""},
		{"the lists are missing", func(t *testing.T, p *place) { os.Remove(inMirror(p, "CKSUMS")); os.Remove(inMirror(p, "SHA256SUMS")) }, 0, ""},
		{".repo is missing", func(t *testing.T, p *place) { os.RemoveAll(inMirror(p, mirror.Private)) }, 0, ""},
		{".repo is missing and an image left", func(t *testing.T, p *place) {
			os.RemoveAll(inMirror(p, mirror.Private))
			p.remove(image1)
			p.Adopt = true
		}, 0, ""},
		{".repo/state is a file", func(t *testing.T, p *place) {
			os.RemoveAll(inMirror(p, mirror.StateDir))
			os.WriteFile(inMirror(p, mirror.StateDir), nil, 0o666)
		}, 0, "not a directory"},
		{"records were damaged", func(t *testing.T, p *place) {
			for _, f := range testGlob(t, inMirror(p, mirror.StateDir+"/*")) {
				os.WriteFile(f, []byte(`{"stamp":`), 0o666)
			}
		}, 0, "a record is damaged"},
		{"an earlier version left signatures", func(t *testing.T, p *place) {
			for _, im := range []string{image3, image4} {
				os.WriteFile(inMirror(p, mirror.SignaturePath(name(im))), signatureOf(t, p.read(im)), 0o666)
			}
			p.add(image4)
		}, 0, ""},
		{"a dead run left files", func(t *testing.T, p *place) { os.WriteFile(inMirror(p, ".repo/tmp"+"/"+image1), []byte("x"), 0o666) }, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, image1, image2, image3, image4)
			p.build()
			if err := os.WriteFile(inMirror(p, "foreign"), []byte("stays"), 0o666); err != nil {
				t.Fatal(err)
			}
			c.change(t, p)
			if s := p.build(); s.Made != c.made {
				t.Errorf("%d deltas made, want %d: %+v", s.Made, c.made, s)
			}
			if (p.log.Len() > 0) != (c.warns != "") || !strings.Contains(p.log.String(), c.warns) {
				t.Errorf("warnings %q, want one of %q", &p.log, c.warns)
			}
			if b, err := os.ReadFile(inMirror(p, "foreign")); err != nil || string(b) != "stays" {
				t.Errorf("a foreign file: %q, %v", b, err)
			}
			os.Remove(inMirror(p, "foreign"))
			fresh := p.copied()
			fresh.build()
			if got, want := p.tree(), fresh.tree(); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if left := testGlob(t, inMirror(p, ".repo/tmp"+"/*")); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			if s := p.build(); s.Changed {
				t.Errorf("a third run changes something: %+v", s)
			}
		})
	}
}

func testGlob(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// A delta that is not worth having is made once, remembered, and made again only
// when it may be worth it.
func TestMaxRatio(t *testing.T) {
	p := newPlace(t, image1, image2, image3, image4)
	for _, c := range []struct {
		ratio               float64
		made, kept, dropped int
		changed             bool
	}{
		{0.4, 5, 0, 4, true},
		{0.4, 0, 5, 4, false},
		{0.2, 0, 2, 7, true},
		{0.2, 0, 2, 7, false},
		{0.9, 7, 2, 0, true},
	} {
		p.Policy.MaxRatio = c.ratio
		s := p.build()
		if s.Made != c.made || s.Kept != c.kept || s.Dropped != c.dropped || s.Changed != c.changed {
			t.Errorf("%+v: %+v", c, s)
		}
		for _, d := range s.Deltas {
			_, err := os.Stat(filepath.Join(p.MirrorDir, "rdiffs", d.File))
			if (err == nil) != (d.Action != plan.Drop) || d.Action != plan.Drop && d.Share > c.ratio {
				t.Errorf("%+v: %+v, %v", c, d, err)
			}
		}
	}
}

// Where images cannot be linked they are copied, and copied once.
func TestCopy(t *testing.T) {
	p := newPlace(t, image3, image4)
	want := func() string { p.build(); return p.tree() }()
	p.MirrorDir = filepath.Join(testdata.SmallDisk(t, 16<<20), "mirror")
	if p.build(); p.tree() != want {
		t.Error("the mirror of copies is another")
	}
	if s := p.build(); s.Changed {
		t.Errorf("a second run changes something: %+v", s)
	}
	p.write(image4, p.read(other))
	p.build()
}

func TestWarnings(t *testing.T) {
	for file, says := range map[string]string{
		"puavo-os-nodefs-buster-2022-02-04-140532-amd64.img": "no puavo-conf",
		"puavo-os-text-buster-2022-02-04-140532-amd64.img":   "no puavo-conf",
		"odd name.img": "odd name.img",
	} {
		p := newPlace(t, other)
		data := []byte("x")
		if file != "odd name.img" {
			data = testdata.Read(t, "badimages/"+file)
		}
		p.write(file, data)
		p.build()
		if !strings.Contains(p.log.String(), says) || !strings.Contains(p.log.String(), file) {
			t.Errorf("%s: warnings %q, want %q", file, &p.log, says)
		}
		if s := p.build(); s.Changed {
			t.Errorf("%s: a second run changes something", file)
		}
	}
}

// One warning tells of all images without a puavo-conf, and its length is bounded.
func TestManyWithoutConf(t *testing.T) {
	p := newPlace(t, other)
	for i := range 30 {
		p.write(fmt.Sprintf("puavo-os-text-buster-2022-02-04-1405%02d-amd64.img", i), []byte("no squashfs"))
	}
	p.build()
	got := p.log.String()
	if n := strings.Count(got, "no puavo-conf found;"); n != 1 || !strings.Contains(got, "-140500-amd64.img, ") || !strings.Contains(got, "-140507-amd64.img and 22 more") || strings.Contains(got, "-140508-") {
		t.Errorf("%d warnings: %s", n, got)
	}
	p.log.Reset()
	if p.build(); strings.Contains(p.log.String(), "puavo-conf") {
		t.Errorf("a second run warns again: %s", &p.log)
	}
}

// A link has the mode of its image, which may not be the one for a web server.
func TestUnreadable(t *testing.T) {
	p := newPlace(t, image3, image4)
	p.build()
	if p.log.Len() > 0 {
		t.Errorf("warnings %q", &p.log)
	}
	p.add(other)
	if err := os.Chmod(filepath.Join(p.ImageDir, other), 0o600); err != nil {
		t.Fatal(err)
	}
	p.build()
	if s := p.log.String(); !strings.Contains(s, "chmod it to 0644") || !strings.Contains(s, other) {
		t.Errorf("warnings %q", s)
	}
}

// Each fault gives an error that names the file, and leaves the mirror valid and
// the rest of it as it was.
func TestBuildFails(t *testing.T) {
	bad := func(prefix string) func(*place) {
		file := "puavo-os-" + prefix + "-buster-2022-02-04-140532-amd64.img"
		return func(p *place) { p.write(file, testdata.Read(p.t, "badimages/"+file)) }
	}
	for _, c := range []struct {
		name   string
		change func(p *place)
		err    error
		says   []string
	}{
		{"no image directory", func(p *place) { p.ImageDir += "/none" }, fs.ErrNotExist, []string{"/none", "check the path"}},
		{"the image directory is a file", func(p *place) { p.ImageDir += "/" + image3 }, nil, []string{image3, "not a directory"}},
		{"no images", func(p *place) { p.remove(image3); p.remove(image4) }, plan.ErrInput, []string{"images", "no images"}},
		{"an empty image", bad("empty"), nil, []string{"puavo-os-empty", "is empty"}},
		{"an image that is not all there", bad("cut"), nil, []string{"puavo-os-cut", "is cut off: it has 6000 of"}},
		{"a setting twice", bad("twice"), nil, []string{"puavo-os-twice", "definitions", ".json"}},
		{"definitions that are no JSON", bad("nojson"), nil, []string{"puavo-os-nojson", ".json"}},
		{"definitions that are no object", bad("array"), nil, []string{"puavo-os-array", ".json"}},
		{"the mirror is a file", func(p *place) { p.MirrorDir += "/CKSUMS" }, nil, []string{"CKSUMS", "not a directory"}},
		{"the mirror is the image directory", func(p *place) { p.MirrorDir = p.ImageDir }, nil, []string{"is inside the mirror"}},
		{"the image directory is in the mirror", func(p *place) { p.MirrorDir = filepath.Dir(p.ImageDir) }, nil, []string{"is inside the mirror"}},
		{"the mirror is in a mirror", func(p *place) { p.MirrorDir += "/mirror" }, nil, []string{"inside another mirror"}},
		{"a file in the way of a folder", func(p *place) {
			os.RemoveAll(p.MirrorDir + "/meta")
			os.WriteFile(p.MirrorDir+"/meta", nil, 0o666)
		}, nil, []string{"meta"}},
		{"a folder in the way of an image", func(p *place) { p.add(other); os.MkdirAll(filepath.Join(p.MirrorDir, other, "x"), 0o777) }, nil, []string{other}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, image3, image4)
			p.build()
			mirror := p.MirrorDir
			before := p.tree()
			c.change(p)
			_, _, err := Build(t.Context(), p.Options)
			if err == nil || c.err != nil && !errors.Is(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%v, want one that says %q", err, s)
				}
			}
			p.MirrorDir = mirror
			p.valid()
			if after := p.tree(); !strings.HasPrefix(c.name, "a f") && after != before {
				t.Errorf("the mirror was changed from\n%s\nto\n%s", before, after)
			}
		})
	}
}

func TestLocked(t *testing.T) {
	p := newPlace(t, image3, image4)
	p.build()
	lock, err := lockfile.Acquire(p.MirrorDir, mirror.Lock)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	_, _, err = Build(t.Context(), p.Options)
	if !errors.Is(err, lockfile.ErrHeld) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("while another holds the lock: %v", err)
	}
	if _, err := MakePlan(t.Context(), p.Options); err != nil {
		t.Errorf("a plan needs no lock: %v", err)
	}
}

func TestReadOnlyMirror(t *testing.T) {
	p := newPlace(t, image3, image4)
	disk := testdata.SmallDisk(t, 16<<20)
	p.MirrorDir = filepath.Join(disk, "mirror")
	p.build()
	p.add(other)
	if err := syscall.Mount("", disk, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	_, _, err := Build(t.Context(), p.Options)
	if !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), "make it writable") {
		t.Errorf("on a read-only disk: %v", err)
	}
	p.valid()
}

// On a disk that gets full at any point the mirror stays valid, and with room
// the next run ends as any.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	p := newPlace(t, image2, image3, image4)
	p.IgnoreSpace = true
	want := func() string { p.build(); return p.tree() }()
	full := 0
	for size := 256 << 10; size < 2<<20; size += testdata.Scale(48, 240) << 10 {
		disk := testdata.SmallDisk(t, size)
		p.MirrorDir = filepath.Join(disk, "mirror")
		_, _, err := Build(t.Context(), p.Options)
		p.valid()
		if err == nil {
			break
		}
		full++
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "make room") {
			t.Fatalf("on a disk of %d bytes: %v", size, err)
		}
		if err := syscall.Mount("", disk, "", syscall.MS_REMOUNT, "size=16m"); err != nil {
			t.Fatal(err)
		}
		if p.build(); p.tree() != want {
			t.Errorf("after a disk of %d bytes the mirror is another", size)
		}
	}
	if full < testdata.Scale(20, 4) {
		t.Errorf("only %d disks got full", full)
	}
}

// A disk that will not do is told before the work begins.
func TestSpace(t *testing.T) {
	p := newPlace(t, image3, image4)
	p.MirrorDir = filepath.Join(testdata.SmallDisk(t, 512<<10), "mirror")
	planned, err := MakePlan(t.Context(), p.Options)
	if err != nil || planned.Estimate.Space <= planned.Estimate.Free {
		t.Errorf("%+v, %v", planned.Estimate, err)
	}
	_, s, err := Build(t.Context(), p.Options)
	if !errors.Is(err, plan.ErrSpace) || !strings.Contains(err.Error(), p.MirrorDir) || !strings.Contains(err.Error(), "--ignore-space") || p.tree() != "" || s.Changed {
		t.Errorf("%v, mirror %s", err, p.tree())
	}
}

// A file that cannot be read is an error that names it. The kernel's lo interface
// has a file that never can.
func TestReadError(t *testing.T) {
	p := newPlace(t, image3, image4)
	p.build()
	before := p.tree()
	if err := os.Symlink("/sys/class/net/lo/speed", filepath.Join(p.ImageDir, other)); err != nil {
		t.Fatal(err)
	}
	_, _, err := Build(t.Context(), p.Options)
	if err == nil || !strings.Contains(err.Error(), other) || !strings.Contains(err.Error(), "invalid argument") {
		t.Errorf("%v", err)
	}
	if p.valid(); p.tree() != before {
		t.Error("the mirror changed")
	}
	p.remove(other)
	if s := p.build(); s.Changed {
		t.Errorf("%+v", s)
	}
}

// A run that is cancelled at any point says so, leaves no temporary file, and
// the next ends as any.
func TestCancelled(t *testing.T) {
	t.Parallel()
	p := newPlace(t, image2, image3, image4)
	want := func() string { p.build(); return p.tree() }()
	cancelled := 0
	for point := int64(0); point < 40; point += int64(testdata.Scale(1, 4)) {
		p.MirrorDir = filepath.Join(t.TempDir(), "mirror")
		ctx, cancel := context.WithCancel(t.Context())
		var calls atomic.Int64
		p.Progress = func(int64, int64) {
			if calls.Add(1) > point {
				cancel()
			}
		}
		_, _, err := Build(ctx, p.Options)
		cancel()
		p.Progress = nil
		if err == nil {
			break
		}
		cancelled++
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("point %d: %v", point, err)
		}
		p.valid()
		if left := testGlob(t, filepath.Join(p.MirrorDir, ".repo/tmp", "*")); len(left) > 0 {
			t.Errorf("point %d: left %v", point, left)
		}
		if p.build(); p.tree() != want {
			t.Errorf("point %d: the mirror is another", point)
		}
	}
	if cancelled < testdata.Scale(10, 3) {
		t.Errorf("only %d runs were cancelled", cancelled)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := MakePlan(ctx, p.Options); !errors.Is(err, context.Canceled) {
		t.Errorf("MakePlan: %v", err)
	}
}

// An image that changes or shrinks while it is read is an error that names it,
// at whatever point of the run.
func TestImageChanges(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(path string) error
	}{
		{"shrinks", func(path string) error { return os.Truncate(path, 1000) }},
		{"grows", func(path string) error { return os.Truncate(path, 10<<20) }},
		{"changes", func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt(bytes.Repeat([]byte("changed "), 20_000), 100_000)
			return err
		}},
		{"is replaced", func(path string) error {
			if err := os.WriteFile(path+".new", testdata.Read(t, "images/"+other), 0o666); err != nil {
				return err
			}
			return os.Rename(path+".new", path)
		}},
		{"is removed", os.Remove},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			failed := 0
			for point := int64(0); point < 24; point += int64(testdata.Scale(1, 5)) {
				p := newPlace(t, image3, image4)
				var calls atomic.Int64
				p.Progress = func(int64, int64) {
					if calls.Add(1) == point+1 {
						if err := c.change(filepath.Join(p.ImageDir, image4)); err != nil {
							t.Error(err)
						}
					}
				}
				_, _, err := Build(t.Context(), p.Options)
				if calls.Load() <= point {
					break
				}
				if err == nil {
					continue // it was read already; the next run sees it
				}
				failed++
				if !strings.Contains(err.Error(), image4) && !strings.Contains(err.Error(), "2022-01-20-173248") {
					t.Errorf("point %d: %v does not name the image", point, err)
				}
				if c.name != "is removed" && !errors.Is(err, ErrChanged) {
					t.Errorf("point %d: %v, want ErrChanged", point, err)
				}
			}
			if failed == 0 {
				t.Error("no run failed")
			}
		})
	}
}

// An image that was overwritten in place is in the mirror what it is in the image
// directory: once that is known, no meta says otherwise, however the run ends.
func TestOverwrittenImage(t *testing.T) {
	p := newPlace(t, image3, image4)
	p.build()
	data := p.read(image4)
	data[len(data)/2]++
	if err := os.WriteFile(filepath.Join(p.ImageDir, image4), data, 0o666); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p.Stage = func(stage, _ string) {
		if stage == "delta_make" { // the images were read
			cancel()
		}
	}
	if _, _, err := Build(ctx, p.Options); !errors.Is(err, context.Canceled) {
		t.Fatalf("not cancelled: %v", err)
	}
	p.valid()
	p.Stage = nil
	if s := p.build(); s.Images != 2 || s.Made+s.Kept != 2 {
		t.Errorf("%+v", s)
	}
}

func TestMakePlanChangesNothing(t *testing.T) {
	p := newPlace(t, image3, image4)
	planned, err := MakePlan(t.Context(), p.Options)
	if err != nil || len(planned.Deltas) != 2 {
		t.Fatalf("%+v, %v", planned, err)
	}
	if _, err := os.Stat(p.MirrorDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the mirror is there: %v", err)
	}
	p.build()
	before, records := p.tree(), len(testGlob(t, filepath.Join(p.MirrorDir, mirror.StateDir, "*")))
	p.add(other)
	if planned, err = MakePlan(t.Context(), p.Options); err != nil || len(planned.Images) != 3 {
		t.Fatalf("%+v, %v", planned, err)
	}
	if p.tree() != before || len(testGlob(t, filepath.Join(p.MirrorDir, mirror.StateDir, "*"))) != records {
		t.Error("a plan changes the mirror")
	}
}

// Series files with shared images, deltas across prefixes, and bases that are
// not published.
func TestBuildWithConfig(t *testing.T) {
	p := newPlace(t, image1, image2, image3, image4, other)
	p.Config = plan.Config{Series: []meta.SeriesConfig{
		{Name: "release", Images: names(image2, image4), Extra: map[meta.Name][]meta.Name{name(image4): names(other)}},
		{Name: "devel", Images: names(image2, image3, image4)},
	}}
	s := p.build()
	if s.Series != 2 || s.Images != 3 || s.Made != 7 {
		t.Errorf("%+v", s)
	}
	tree := p.tree()
	for _, f := range []string{image1, other, "puavo-os-amxa-buster-amd64.json"} {
		if strings.Contains(tree, f) {
			t.Errorf("%s is published:\n%s", f, tree)
		}
	}
	if !strings.Contains(tree, meta.DeltaName(name(other), name(image4))) {
		t.Errorf("no delta from %s:\n%s", other, tree)
	}
	p.Config = plan.Config{}
	p.build()
	p.Config = plan.Config{Series: []meta.SeriesConfig{{Name: "release", Images: names(image2, image4), Extra: map[meta.Name][]meta.Name{name(image4): names(other)}}}}
	p.AllowRemoval = true
	p.build()
	if tree := p.tree(); strings.Contains(tree, "\n"+other) || strings.Contains(tree, "devel") {
		t.Errorf("what left the series is published:\n%s", tree)
	}
	if s := p.build(); s.Changed {
		t.Errorf("another run changes something: %+v", s)
	}
}

// The meta and CKSUMS are the predecessor's for the same images, apart from
// blake3 and the sizes and digests of the deltas themselves.
func TestPredecessor(t *testing.T) {
	p := newPlace(t, image1, image2, image3, image4, other)
	p.build()
	for _, doc := range testdata.Glob(t, "predecessor/*.json") {
		var want, got any
		decode(t, doc, &want)
		decode(t, filepath.Join(p.MirrorDir, "meta", filepath.Base(doc)), &got)
		if diff := difference("", common(want), common(got)); diff != "" {
			t.Errorf("%s: %s", filepath.Base(doc), diff)
		}
	}
	ours, err := os.ReadFile(filepath.Join(p.MirrorDir, "CKSUMS"))
	if err != nil {
		t.Fatal(err)
	}
	theirs := strings.Lines(string(testdata.Read(t, "predecessor/CKSUMS")))
	for line := range theirs {
		if strings.Contains(line, ".img") && !strings.Contains(string(ours), line) {
			t.Errorf("CKSUMS lacks %s", line)
		}
	}
}

func decode(t *testing.T, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
}

// common takes out of a document what may differ.
func common(v any) any {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			common(e)
		}
	case map[string]any:
		delete(v, "blake3")
		if name, _ := v["filename"].(string); strings.HasSuffix(name, ".rdiff") {
			for _, key := range []string{"size", "cksum", "sha256", "sha512"} {
				if v[key] == nil {
					v["missing"] = key
				}
				delete(v, key)
			}
		}
		for _, e := range v {
			common(e)
		}
	}
	return v
}

// difference tells where two documents differ, or "".
func difference(path string, want, got any) string {
	w, wok := want.(map[string]any)
	g, gok := got.(map[string]any)
	if !wok || !gok {
		if !reflect.DeepEqual(want, got) {
			return fmt.Sprintf("%s is %v, want %v", path, got, want)
		}
		return ""
	}
	for key := range g {
		if _, ok := w[key]; !ok {
			return path + "." + key + " is too much"
		}
	}
	for key := range w {
		if diff := difference(path+"."+key, w[key], g[key]); diff != "" {
			return diff
		}
	}
	return ""
}
