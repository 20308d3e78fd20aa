package imagerepo

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"puavo-image-repository/delta"
	"puavo-image-repository/meta"
)

// published returns what the mirror publishes of an image.
func (p *place) published(image string) (meta.Image, bool) {
	p.t.Helper()
	data, err := os.ReadFile(filepath.Join(p.MirrorDir, meta.SeriesPath(name(image).Series())))
	if err != nil {
		p.t.Fatal(err)
	}
	s, err := meta.ParseSeries(data)
	if err != nil {
		p.t.Fatal(err)
	}
	im, found := s.Image(name(image))
	if !found {
		return meta.Image{}, false
	}
	return *im, true
}

// there reports whether the mirror has a file.
func (p *place) there(file string) bool {
	_, err := os.Lstat(filepath.Join(p.MirrorDir, filepath.FromSlash(file)))
	return err == nil
}

// An image that left stays a base, by its signature: clients that run it get a
// delta to an image that was made after it was gone.
func TestKeepSignatures(t *testing.T) {
	p := newPlace(t, image1, image2, image3)
	p.Policy.KeepSignatures = true
	p.build()
	p.remove(image1)
	p.add(image4)
	s := p.build()
	if s.Images != 3 || s.Made != 5 || s.Kept != 4 {
		t.Errorf("%+v", s)
	}
	if _, found := p.published(image1); found || p.there(image1) {
		t.Error("the image that left is published")
	}
	im, _ := p.published(image4)
	d, found := im.Diff(name(image1))
	if !found || d.Sums.Size == 0 {
		t.Fatalf("no delta from the image that left: %+v", im.Diffs)
	}
	file, err := os.ReadFile(filepath.Join(p.MirrorDir, meta.DeltaPath(d.Filename)))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	base, want := p.read(image1), p.read(image4)
	err = delta.Patch(t.Context(), &out, bytes.NewReader(base), bytes.NewReader(file), int64(len(want)))
	if err != nil || !bytes.Equal(out.Bytes(), want) {
		t.Errorf("the delta from the image that left gives another image, %v", err)
	}
	if s := p.build(); s.Changed {
		t.Errorf("another run changes something: %+v", s)
	}
	damage(t, filepath.Join(p.MirrorDir, meta.DeltaPath(d.Filename)))
	if s := p.build(); s.Made != 1 {
		t.Errorf("a damaged delta from the image that left: %+v", s)
	}
	p.Policy.KeepSignatures = false
	p.build()
	if left := testGlob(t, filepath.Join(p.MirrorDir, "*", "*2021-04-13-192449*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if left := testGlob(t, filepath.Join(p.MirrorDir, ".repo/*/*2021-04-13-192449*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// damage changes a byte in the middle of a file.
func damage(t *testing.T, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2]++
	if err := os.WriteFile(file, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

// Within the grace time a client that has read the meta before a run finds all
// that it names.
func TestGrace(t *testing.T) {
	p := newPlace(t, image1, image2, image3, image4)
	p.build()
	gone := []string{image1, "rdiffs/" + meta.DeltaName(name(image1), name(image4))}
	p.remove(image1)
	p.Policy.Grace = time.Hour
	planned, err := MakePlan(t.Context(), p.Options)
	if err != nil || len(planned.Remove) != 4 || planned.Remove[0].Due.IsZero() {
		t.Errorf("%+v, %v", planned.Remove, err)
	}
	for range 2 {
		if s := p.build(); s.Removed > 0 {
			t.Errorf("%+v", s)
		}
		for _, f := range gone {
			if !p.there(f) {
				t.Errorf("%s is gone", f)
			}
		}
		if list, _ := os.ReadFile(filepath.Join(p.MirrorDir, "CKSUMS")); strings.Contains(string(list), image1) {
			t.Error("what left is listed")
		}
	}
	if s := p.build(); s.Changed {
		t.Errorf("waiting changes something: %+v", s)
	}
	// It comes back and leaves again: the time begins anew.
	p.add(image1)
	if s := p.build(); s.Made != 0 || s.Kept != 9 {
		t.Errorf("what came back is made anew: %+v", s)
	}
	p.remove(image1)
	p.Policy.Grace = time.Nanosecond
	if s := p.build(); s.Removed > 0 {
		t.Errorf("%+v", s)
	}
	if s := p.build(); s.Removed != 4 {
		t.Errorf("%+v", s)
	}
	for _, f := range gone {
		if p.there(f) {
			t.Errorf("%s is there after the grace", f)
		}
	}
	if s := p.build(); s.Changed {
		t.Errorf("another run changes something: %+v", s)
	}
}

// A delta that a run finds too large, though no record told, has its grace too.
func TestGraceOfDropped(t *testing.T) {
	p := newPlace(t, image3, image4)
	p.build()
	file := meta.DeltaName(name(image3), name(image4))
	if err := os.Remove(filepath.Join(p.MirrorDir, ".repo/state", file+".json")); err != nil {
		t.Fatal(err)
	}
	p.Policy.MaxRatio, p.Policy.Grace = 0.001, time.Hour
	if s := p.build(); s.Dropped != 2 || s.Removed != 0 || !p.there("rdiffs/"+file) {
		t.Errorf("%+v", s)
	}
	if s := p.build(); s.Changed {
		t.Errorf("waiting changes something: %+v", s)
	}
	p.Policy.Grace = 0
	if s := p.build(); s.Removed != 2 || p.there("rdiffs/"+file) {
		t.Errorf("%+v", s)
	}
}

// While the mirror changes, a client finds what any meta names that it has read
// within the grace time.
func TestClientMeanwhile(t *testing.T) {
	p := newPlace(t, image1, image2, image3)
	p.Policy.Grace = time.Hour
	p.build()
	ctx, cancel := context.WithCancel(t.Context())
	var client sync.WaitGroup
	var seen map[string]bool
	client.Go(func() { seen = lookFor(ctx, t, p.MirrorDir) })
	p.add(image4)
	p.build()
	p.remove(image1)
	p.build()
	p.remove(image2)
	p.add(other)
	p.build()
	cancel()
	client.Wait()
	for _, f := range []string{image1, meta.DeltaPath(meta.DeltaName(name(image1), name(image3)))} {
		if !seen[f] {
			t.Errorf("the client has not looked for %s", f)
		}
	}
}

// lookFor looks for all that the meta of a mirror has ever named, until ctx ends,
// and returns what it was.
func lookFor(ctx context.Context, t *testing.T, dir string) map[string]bool {
	named := make(map[string]bool)
	for ctx.Err() == nil {
		docs, err := filepath.Glob(filepath.Join(dir, "meta", "*.json"))
		if err != nil {
			t.Error(err)
		}
		for _, doc := range docs {
			data, err := os.ReadFile(doc)
			if err != nil {
				t.Error(err)
				continue
			}
			s, err := meta.ParseSeries(data)
			if err != nil {
				t.Errorf("%s: %v", doc, err)
			}
			for _, im := range s.Images {
				named[im.Name.String()] = true
				for _, d := range im.Diffs {
					named[meta.DeltaPath(d.Filename)] = true
				}
			}
		}
		for f := range named {
			if _, err := os.Stat(filepath.Join(dir, f)); err != nil {
				t.Error(err)
				return named
			}
		}
	}
	return named
}

// A mirror that another tool made is taken over, with what is right in it.
func TestAdopt(t *testing.T) {
	stray := meta.DeltaPath(meta.DeltaName(name(image1), name(other)))
	for _, c := range []struct {
		name  string
		adopt bool
		gone  []string // that were there
	}{
		{"by itself", false, nil},
		{"as asked for", true, []string{"meta/old.json", stray, image1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, image2, image3, image4)
			p.build()
			want := p.tree()
			for _, dir := range []string{".checksums", ".signatures"} {
				if err := os.Mkdir(filepath.Join(p.MirrorDir, dir), 0o777); err != nil {
					t.Fatal(err)
				}
			}
			os.RemoveAll(filepath.Join(p.MirrorDir, ".repo"))
			os.WriteFile(filepath.Join(p.MirrorDir, image1), []byte("nobody lists it"), 0o666)
			os.WriteFile(filepath.Join(p.MirrorDir, stray), []byte("nor this"), 0o666)
			os.WriteFile(filepath.Join(p.MirrorDir, "meta/old.json"), []byte(`{"old":{"images":[]}}`), 0o666)
			os.WriteFile(filepath.Join(p.MirrorDir, "meta/foreign.json"), []byte(`[]`), 0o666)
			p.Adopt = c.adopt
			planned, s, err := Build(t.Context(), p.Options)
			if err != nil || !planned.Adopted || s.Made != 0 || s.Kept != 6 || strings.Join(planned.LeftAlone, " ") != ".checksums .signatures" {
				t.Errorf("%+v, %+v, %v", planned, s, err)
			}
			for _, f := range []string{"meta/old.json", stray, image1, "meta/foreign.json"} {
				if p.there(f) == strings.Contains(strings.Join(c.gone, " "), f) {
					t.Errorf("%s is there: %v", f, p.there(f))
				}
				os.Remove(filepath.Join(p.MirrorDir, f))
			}
			if p.tree() != want {
				t.Errorf("got\n%s\nwant\n%s", p.tree(), want)
			}
			p.Adopt = false
			if planned, s, err := Build(t.Context(), p.Options); err != nil || planned.Adopted || s.Changed {
				t.Errorf("the next run: %+v, %v", s, err)
			}
		})
	}
}

// A run remembers its options, so that what is damaged can be made anew from the
// mirror alone.
func TestSuspect(t *testing.T) {
	d34 := meta.DeltaPath(meta.DeltaName(name(image3), name(image4)))
	keepTime := func(p *place, file string) {
		path := filepath.Join(p.MirrorDir, file)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		damage(t, path)
		if err := os.Chtimes(path, time.Time{}, info.ModTime()); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		file string
		says string
	}{
		{d34, ""},
		{meta.SeriesPath(name(image3).Series()), ""},
		{"CKSUMS", ""},
		{image4, "is the same file, and damaged too"},
	} {
		p := newPlace(t, image2, image3, image4)
		p.Policy.Targets, p.Effort, p.URL = 2, delta.Fast, "https://elsewhere.example.org"
		p.build()
		want := p.tree()
		keepTime(p, c.file)
		o, err := Remembered(p.MirrorDir)
		if err != nil {
			t.Fatal(err)
		}
		o.Log, o.Suspect = p.Log, []string{c.file}
		_, _, err = Build(t.Context(), o)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.file, err)
		}
		if err == nil && p.tree() != want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.file, p.tree(), want)
		}
	}
	if _, err := Remembered(t.TempDir()); err == nil || !strings.Contains(err.Error(), "build it once") {
		t.Errorf("no mirror: %v", err)
	}
}
