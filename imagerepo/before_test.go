package imagerepo

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

// Images of the mirror that the program before has left: the first has left the
// image directory, and the second could not be linked.
const (
	long1 = "puavo-os-long-buster-2022-03-01-000000-amd64.img"
	long2 = "puavo-os-long-buster-2022-03-02-000000-amd64.img"
	long3 = "puavo-os-long-buster-2022-03-03-000000-amd64.img"
	long4 = "puavo-os-long-buster-2022-03-04-000000-amd64.img"
	tried = "puavo-os-test-buster-2022-02-28-000000-amd64.img"
)

// newBefore returns the place that the program before has left, with the options
// that it had.
func newBefore(t testing.TB) *place {
	t.Helper()
	dir := t.TempDir()
	testdata.Before(t, "mirror", dir)
	p := &place{t: t}
	var err error
	if p.Options, err = Remembered(filepath.Join(dir, "mirror")); err != nil {
		t.Fatal(err)
	}
	p.ImageDir, p.Jobs, p.NoSync = filepath.Join(dir, "puavo-os-images"), 2, true
	p.Log = slog.New(slog.NewTextHandler(&p.log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	return p
}

// The options of the run before are those of its command line.
func TestBeforeRemembered(t *testing.T) {
	dir := t.TempDir()
	testdata.Before(t, "mirror", dir)
	got, err := Remembered(filepath.Join(dir, "mirror"))
	if err != nil {
		t.Fatal(err)
	}
	config, err := plan.LoadConfig(t.Context(), []string{testdata.Path("before/config/amxa.json"), testdata.Path("before/config/long.json")})
	if err != nil {
		t.Fatal(err)
	}
	want := Options{
		ImageDir: filepath.Join(dir, "puavo-os-images"), MirrorDir: filepath.Join(dir, "mirror"), URL: "https://images.example.org", Config: config,
		Policy: plan.Policy{Targets: 3, Downgrades: true, MaxRatio: 0.3, KeepSignatures: true, Grace: 10000 * 24 * time.Hour},
		Effort: delta.Default,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// A mirror of the program before is taken over as it is, to the last byte of what is
// published, with what left the image directory and waits, and another run has
// nothing to do.
func TestBeforeTakenOver(t *testing.T) {
	for _, c := range []struct {
		name   string
		made   int
		change func(p *place)
	}{
		{"as it was left", 0, func(*place) {}},
		{"the images were touched", 0, func(p *place) {
			p.each(func(image string) {
				os.Chtimes(filepath.Join(p.ImageDir, image), time.Time{}, time.Now().Add(time.Second))
			})
		}},
		{"the images were copied again", 0, func(p *place) {
			p.each(func(image string) { p.write(image, testdata.BeforeImage(t, image)) })
		}},
		{"the mirror was copied", 0, func(p *place) {
			moved := p.MirrorDir + " copied"
			if err := os.CopyFS(moved, os.DirFS(p.MirrorDir)); err != nil {
				t.Fatal(err)
			}
			p.MirrorDir = moved
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newBefore(t)
			want := p.tree()
			c.change(p)
			if s := p.build(); s.Series != 2 || s.Images != 5 || s.Made != c.made || s.Kept != 7-c.made || s.Dropped != 4 || s.Removed != 0 {
				t.Errorf("%+v", s)
			}
			if got := p.tree(); withoutPage(got) != withoutPage(want) && c.made == 0 || !strings.Contains(got, "\nindex.html ") {
				t.Errorf("the mirror is\n%swas\n%s", got, want)
			}
			if s := p.build(); s.Changed || s.Made != 0 || s.Kept != 7 {
				t.Errorf("another run: %+v", s)
			}
			if p.log.Len() > 0 {
				t.Errorf("warnings: %s", &p.log)
			}
		})
	}
}

// withoutPage returns a tree without the page, which a mirror of before does not have, and
// the lists of digests, of which it has one.
func withoutPage(tree string) string {
	return regexp.MustCompile(`(?m)^(index\.html|(.*/)?SHA256SUMS) .*\n`).ReplaceAllString(tree, "")
}

// A mirror of before has one list of digests; the first run makes it one for each folder,
// with the same digests, whenever a run before it has ended in between.
func TestBeforeLists(t *testing.T) {
	lines := func(p *place, list string) []string {
		data, err := os.ReadFile(filepath.Join(p.MirrorDir, list))
		if err != nil {
			t.Fatal(err)
		}
		all := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
		for i, l := range all {
			all[i] = l[:66] + path.Join(path.Dir(list), l[66:])
		}
		return all
	}
	lists := slices.DeleteFunc(mirror.Lists(), func(list string) bool {
		return slices.Contains([]string{mirror.TorrentDir, mirror.CompactDir}, path.Dir(list)) // it has none of these
	})
	for _, left := range lists { // is not written
		p := newBefore(t)
		before := lines(p, mirror.SHA256)
		stop := atomicfile.Observe(p.MirrorDir, func(c atomicfile.Change) error {
			if c.Kind == atomicfile.Rename && c.To == left {
				return syscall.EIO
			}
			return nil
		})
		_, _, err := Build(t.Context(), p.Options)
		stop()
		if !errors.Is(err, syscall.EIO) || !slices.Equal(lines(p, mirror.SHA256), before) {
			t.Errorf("%s is not written: %v", left, err)
		}
		p.build()
		var after []string
		for _, list := range lists {
			after = append(after, lines(p, list)...)
		}
		after = slices.DeleteFunc(after, func(l string) bool { return strings.HasSuffix(l, "  index.html") })
		slices.SortFunc(after, func(a, b string) int { return strings.Compare(a[66:], b[66:]) })
		if !slices.Equal(after, before) || len(lines(p, mirror.SHA256)) != 5+3 {
			t.Errorf("after %s was not written, the lists have\n%s\nwas\n%s", left, strings.Join(after, "\n"), strings.Join(before, "\n"))
		}
	}
}

// each calls do with each image of the image directory.
func (p *place) each(do func(image string)) {
	p.t.Helper()
	images, err := os.ReadDir(p.ImageDir)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, im := range images {
		do(im.Name())
	}
}

// leads checks that the mirror publishes a delta between two images, and that it
// makes the one of the other.
func (p *place) leads(base, target string, want []byte) {
	p.t.Helper()
	im, _ := p.published(target)
	d, found := im.Diff(name(base))
	if !found {
		p.t.Errorf("no delta from %s to %s is published", base, target)
		return
	}
	file, err := os.ReadFile(filepath.Join(p.MirrorDir, meta.DeltaPath(d.Filename)))
	if err != nil {
		p.t.Fatal(err)
	}
	var got bytes.Buffer
	content := testdata.BeforeImage(p.t, base)
	err = delta.Patch(p.t.Context(), &got, bytes.NewReader(content), bytes.NewReader(file), int64(len(want)))
	if err != nil || !bytes.Equal(got.Bytes(), want) {
		p.t.Errorf("the delta from %s to %s makes another image, %v", base, target, err)
	}
}

// An image that left, and the one that only extra_rdiffs names, are bases still: the
// first one by the signature that the program before has made.
func TestBeforeBases(t *testing.T) {
	for _, base := range []string{long1, tried} {
		p := newBefore(t)
		p.leads(base, long3, testdata.BeforeImage(t, long3))
		lost := meta.DeltaPath(meta.DeltaName(name(base), name(long3)))
		if err := os.Remove(filepath.Join(p.MirrorDir, lost)); err != nil {
			t.Fatal(err)
		}
		if s := p.build(); s.Made != 1 || s.Kept != 6 {
			t.Errorf("a delta from %s was lost: %+v", base, s)
		}
		p.leads(base, long3, testdata.BeforeImage(t, long3))
		if _, found := p.published(long1); found || p.there(tried) {
			t.Error("an image that is a base only is published")
		}
	}
}

func readFile(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A delta from an image that left is the one that the program before has made, byte for
// byte: by its signature, and where that is lost, by one that is made again of the file
// that waits in the mirror.
func TestBeforeSameDelta(t *testing.T) {
	for _, lost := range []bool{false, true} {
		p := newBefore(t)
		file := filepath.Join(p.MirrorDir, meta.DeltaPath(meta.DeltaName(name(long1), name(long3))))
		signature := filepath.Join(p.MirrorDir, mirror.SignaturePath(name(long1)))
		want, wantSigned := readFile(t, file), readFile(t, signature)
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if lost {
			if err := os.Remove(signature); err != nil {
				t.Fatal(err)
			}
		}
		if s := p.build(); s.Made != 1 || s.Kept != 6 || !p.there(long1) {
			t.Errorf("%+v", s)
		}
		if !bytes.Equal(readFile(t, file), want) || !bytes.Equal(readFile(t, signature), wantSigned) {
			t.Errorf("the signature was lost: %v; another delta or signature", lost)
		}
	}
}

// An image that is new gets deltas from those that the program before has known, and
// from the one that had left by then.
func TestBeforeGoesOn(t *testing.T) {
	p := newBefore(t)
	added := append(testdata.BeforeImage(t, long3), testdata.BeforeImage(t, image2)...)
	p.write(long4, added)
	series := &p.Config.Series[1]
	series.Images = append(series.Images, name(long4))
	if s := p.build(); s.Images != 6 || s.Kept != 7 || s.Removed != 0 {
		t.Errorf("%+v", s)
	}
	for _, base := range []string{long1, long2, long3} {
		p.leads(base, long4, added)
	}
}

// What waited to be removed waits on, since the time that was taken down then.
func TestBeforeWaits(t *testing.T) {
	waiting := []string{long1, meta.DeltaPath(meta.DeltaName(name(long2), name(long1)))}
	p := newBefore(t)
	for _, c := range []struct {
		grace   time.Duration
		removed int
	}{{p.Policy.Grace, 0}, {time.Nanosecond, 2}} {
		p.Policy.Grace = c.grace
		if s := p.build(); s.Removed != c.removed {
			t.Errorf("grace %v: %+v", c.grace, s)
		}
		for _, file := range waiting {
			if p.there(file) != (c.removed == 0) {
				t.Errorf("grace %v: %s is there: %v", c.grace, file, p.there(file))
			}
		}
	}
	p.leads(long1, long3, testdata.BeforeImage(t, long3))
	if s := p.build(); s.Changed {
		t.Errorf("another run changes something: %+v", s)
	}
}

// A delta that was too large is made when it may be larger, and one that is there is
// dropped when it must be smaller.
func TestBeforeDropped(t *testing.T) {
	for _, c := range []struct {
		ratio               float64
		made, kept, dropped int
	}{{0.3, 0, 7, 4}, {0.2, 0, 6, 5}, {0.9, 4, 7, 0}} {
		p := newBefore(t)
		p.Policy.MaxRatio = c.ratio
		if s := p.build(); s.Made != c.made || s.Kept != c.kept || s.Dropped != c.dropped {
			t.Errorf("at most %v: %+v", c.ratio, s)
		}
	}
}
