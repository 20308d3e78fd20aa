package imagerepo

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

// rightDeltas applies each published delta to its base in the mirror.
func (p *place) rightDeltas() {
	p.t.Helper()
	docs, _ := filepath.Glob(filepath.Join(p.MirrorDir, "meta", "*.json"))
	for _, doc := range docs {
		data, _ := os.ReadFile(doc)
		s, err := meta.ParseSeries(data)
		if err != nil {
			p.t.Fatal(err)
		}
		for _, im := range s.Images {
			for _, d := range im.Diffs {
				base, baseErr := os.ReadFile(filepath.Join(p.MirrorDir, d.Base.String()))
				rdiff, rdiffErr := os.ReadFile(filepath.Join(p.MirrorDir, meta.DeltaPath(d.Filename)))
				h := cksum.New()
				err := delta.Verify(p.t.Context(), h, bytes.NewReader(base), bytes.NewReader(rdiff), im.Sums.Size)
				if err := errors.Join(err, baseErr, rdiffErr); err != nil || h.Sums() != im.Sums {
					p.t.Errorf("%s does not make its image: %v", d.Filename, err)
				}
			}
		}
	}
}

// replace gives another image the name of one, which it keeps beside.
func (p *place) replace(file string) {
	path := filepath.Join(p.ImageDir, file)
	os.Link(path, path+".old")
	os.WriteFile(path+".new", testdata.Read(p.t, "images/"+other), 0o666)
	os.Rename(path+".new", path)
}

// No delta is published that was made from another base than was read, whenever
// that was replaced.
func TestBaseReplaced(t *testing.T) {
	t.Parallel()
	for point := range int64(30) {
		p := newPlace(t, image3, image4)
		large, small := p.read(image4), p.read(image3)
		p.write(image3, large) // the base is read first
		p.write(image4, small)
		p.Jobs, p.Policy.Targets = 1, 1
		var calls atomic.Int64
		p.Progress = func(int64, int64) {
			if calls.Add(1) == point+1 {
				p.replace(image3)
			}
		}
		_, _, err := Build(t.Context(), p.Options)
		if calls.Load() <= point {
			break
		}
		if err == nil {
			p.rightDeltas()
		} else if !errors.Is(err, ErrChanged) {
			t.Errorf("point %d: %v", point, err)
		}
		p.Progress = nil
		old := filepath.Join(p.ImageDir, image3)
		os.Rename(old+".old", old)
		p.build()
		p.rightDeltas()
	}
}

// What is linked into the mirror again is what is known.
func TestLinkReplaced(t *testing.T) {
	p := newPlace(t, image2, image3, image4)
	p.build()
	os.Remove(filepath.Join(p.MirrorDir, image2))
	os.Remove(filepath.Join(p.MirrorDir, image3))
	var calls atomic.Int64
	p.Progress = func(int64, int64) {
		if calls.Add(1) == 1 {
			p.replace(image3)
		}
	}
	if _, _, err := Build(t.Context(), p.Options); !errors.Is(err, ErrChanged) {
		t.Errorf("%v, want ErrChanged", err)
	}
	if p.there(image3) {
		t.Error("the other image is in the mirror")
	}
}

// An image that leaves is removed though the run that was to do so ended before,
// and though its signature stays.
func TestLeavesLater(t *testing.T) {
	p := newPlace(t, image2, image3, image4)
	p.Policy.KeepSignatures = true
	p.build()
	p.remove(image2)
	failure := errors.New("no key")
	p.Sign = func(context.Context, atomicfile.Dir) (bool, error) { return false, failure }
	if _, _, err := Build(t.Context(), p.Options); !errors.Is(err, failure) {
		t.Fatal(err)
	}
	p.Sign = nil
	p.build()
	if p.there(image2) {
		t.Errorf("%s is still there", image2)
	}
	if s := p.build(); s.Changed {
		t.Errorf("another run: %+v", s)
	}
}

// The time that a file stays begins when nothing names it any more, and a clock
// that was wrong does not have it stay for ever.
func TestGraceBegins(t *testing.T) {
	t.Parallel()
	p := newPlace(t, image2, image3, image4)
	p.build()
	p.Policy.Grace = time.Hour
	p.remove(image2)
	var published time.Time
	p.Sign = func(context.Context, atomicfile.Dir) (bool, error) {
		time.Sleep(1100 * time.Millisecond)
		published = time.Now()
		return false, nil
	}
	p.build()
	p.Sign = nil
	delta := meta.DeltaName(name(image2), name(image3))
	if since := p.unnamed(delta, 0); since < published.Unix() {
		t.Errorf("unnamed %v before the meta was published", published.Sub(time.Unix(since, 0)))
	}
	p.unnamed(image2, time.Date(2138, 1, 1, 0, 0, 0, 0, time.UTC).Unix())
	p.build()
	if since := p.unnamed(image2, 0); since > time.Now().Unix() {
		t.Errorf("unnamed since %v", time.Unix(since, 0))
	}
}

// unnamed returns since when a file is taken down as unnamed, and changes that if
// to is not 0.
func (p *place) unnamed(file string, to int64) int64 {
	p.t.Helper()
	m, err := mirror.Open(p.MirrorDir, true, p.Log)
	if err != nil {
		p.t.Fatal(err)
	}
	defer m.Close()
	records, _, err := m.State.Load()
	if err != nil || records[file] == nil {
		p.t.Fatalf("%s: no record, %v", file, err)
	}
	since := records[file].Orphaned
	if to != 0 {
		records[file].Orphaned = to
		if err := m.State.Put(file, records[file]); err != nil {
			p.t.Fatal(err)
		}
	}
	return since
}

// An image that is replaced is withdrawn from what is signed too, before the other
// one is there; meta that the tool did not make stays what it is.
func TestWithdrawn(t *testing.T) {
	p := newPlace(t, image2, image3, image4)
	p.build()
	doc := meta.SeriesPath(name(image3).Series())
	foreign := filepath.Join(p.MirrorDir, "meta", "mine.json")
	data, err := os.ReadFile(filepath.Join(p.MirrorDir, doc))
	if err == nil {
		err = os.WriteFile(foreign, bytes.Replace(data, []byte(name(image3).Series()), []byte("mine"), 1), 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(foreign)
	was, err := os.Stat(filepath.Join(p.MirrorDir, image3))
	if err != nil {
		t.Fatal(err)
	}
	p.replace(image3)
	signed := 0
	p.Sign = func(_ context.Context, dir atomicfile.Dir) (bool, error) {
		data, err := dir.ReadFile(doc, meta.MaxDocument)
		info, statErr := dir.Stat(image3)
		if signed++; signed == 1 && (strings.Contains(string(data), `"filename":"`+image3) || statErr != nil || !os.SameFile(info, was)) {
			t.Errorf("%v: signed first is %s", statErr, data)
		}
		return true, err
	}
	if _, _, err := Build(t.Context(), p.Options); err != nil || signed != 2 {
		t.Errorf("signed %d times, %v", signed, err)
	}
	if after, _ := os.ReadFile(foreign); !bytes.Equal(after, before) {
		t.Error("meta that is not the tool's was changed")
	}
	os.Remove(foreign)
	p.valid()
	p.rightDeltas()
}

// An image that cannot be looked at does not leave the mirror for that.
func TestUnseen(t *testing.T) {
	p := newPlace(t, image2, image3, image4)
	away := filepath.Join(t.TempDir(), image2)
	file := filepath.Join(p.ImageDir, image2)
	if err := errors.Join(os.Rename(file, away), os.Symlink(away, file)); err != nil {
		t.Fatal(err)
	}
	p.build()
	want := p.tree()
	os.Rename(away, away+".gone")
	if _, _, err := Build(t.Context(), p.Options); err == nil || !strings.Contains(err.Error(), "mount its file system") {
		t.Errorf("%v", err)
	}
	if p.tree() != want {
		t.Error("the mirror was changed")
	}
	os.Remove(filepath.Join(p.MirrorDir, image2)) // now it is nothing to lose
	os.Remove(file)
	p.build()
}
