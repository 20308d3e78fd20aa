package pull

import (
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/internal/mirrortest"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/testdata"
)

// bare builds the mirror without deltas.
func (p *place) bare() {
	p.T.Helper()
	p.Must(os.RemoveAll(p.Mirror))
	_, _, err := imagerepo.Build(p.T.Context(), imagerepo.Options{ImageDir: p.Images, MirrorDir: p.Mirror, NoSync: true, Log: slog.New(slog.DiscardHandler), Policy: plan.Policy{}})
	p.Must(err)
}

// deltas returns the names of the deltas of the copy.
func (p *place) deltas() (all []string) {
	for _, name := range slices.Sorted(maps.Keys(mirrortest.Tree(p.T, p.Dest))) {
		if strings.HasSuffix(name, ".rdiff") {
			all = append(all, strings.TrimPrefix(name, "rdiffs/puavo-os-amxa-buster-"))
		}
	}
	return all
}

// Deltas that upstream lacks are made, once, and made again if they are damaged.
func TestMakeDeltas(t *testing.T) {
	t.Parallel()
	p := newPlace(t, image1, image2, image3, other)
	p.Sign()
	p.bare()
	o := p.options()
	o.MakeDeltas, o.Sign, o.Policy.Deltas, o.Grace = true, p.Keys, 1, 0
	_, s := p.pull(o)
	const first, second = "2021-04-13-192449--2021-04-13-193910-amd64.rdiff", "2021-04-13-193910--2022-01-17-120001-amd64.rdiff"
	const back = "2021-04-13-193910--2021-04-13-192449-amd64.rdiff"
	if got := p.deltas(); !slices.Equal(got, []string{first, back, second}) || s.Made != 3 {
		t.Errorf("%q, %+v", got, s)
	}
	if got, err := p.Update(p.Dest, p.Keys.RootFile()); err != nil || got != image3 {
		t.Errorf("a client has %q: %v", got, err)
	}
	if pl, s := p.pull(o); s.Changed || s.Made != 0 {
		t.Errorf("once more: %+v %+v", pl, s)
	}
	p.Must(os.Truncate(filepath.Join(p.Dest, "rdiffs/puavo-os-amxa-buster-"+second), 3))
	if _, s := p.pull(o); s.Made != 1 {
		t.Errorf("a damaged delta: %+v", s)
	}
	p.PutFixture(image4)
	p.bare()
	if _, s := p.pull(o); s.Made != 1 || len(p.deltas()) != 3 || slices.Contains(p.deltas(), back) {
		t.Errorf("a new image: %+v, %q", s, p.deltas())
	}
	// Without the option they go.
	o.MakeDeltas = false
	if p.pull(o); len(p.deltas()) != 0 {
		t.Errorf("%q stay", p.deltas())
	}
}

// What is not worth it, or has no room, is not made again; nothing is made of a damaged image.
func TestUseless(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.Put(image1, noise(1, 1<<20))
	p.Put(image2, noise(2, 1<<20))
	p.bare()
	o := p.options()
	o.MakeDeltas = true
	if _, s := p.pull(o); s.Made != 0 || len(s.Record.Useless) != 2 {
		t.Errorf("%+v", s)
	}
	made := 0
	o.Stage = func(stage, _ string) {
		if stage == "delta_make" {
			made++
		}
	}
	if p.pull(o); made != 0 {
		t.Errorf("%d are made again", made)
	}
	p.Replace(image2)
	p.bare()
	if _, s := p.pull(o); made != 2 || len(s.Record.Useless) != 2 {
		t.Errorf("another image: %d are made, %q", made, s.Record.Useless)
	}
	made = 0
	p.Leave(image1)
	p.Put(image3, noise(3, 1<<20))
	p.bare()
	want := []string{"rdiffs/puavo-os-amxa-buster-2021-04-13-193910--2022-01-17-120001-amd64.rdiff", "rdiffs/puavo-os-amxa-buster-2022-01-17-120001--2021-04-13-193910-amd64.rdiff"}
	if _, s := p.pull(o); made != 2 || !slices.Equal(slices.Sorted(maps.Keys(s.Record.Useless)), want) {
		t.Errorf("an image has left: %d are made, %q", made, s.Record.Useless)
	}
	p.Put(image1, noise(1, 1<<20))
	p.Leave(image2, image3)
	p.bare()
	o.AllowRemoval = true
	if _, s := p.pull(o); len(s.Record.Useless) != 0 {
		t.Errorf("one image: %q", s.Record.Useless)
	}

	p = newPlace(t, image1, image2)
	p.bare()
	o = p.options()
	o.MakeDeltas, o.MaxSize = true, int64(len(testdata.Read(t, "images/"+image1))+len(testdata.Read(t, "images/"+image2)))
	if _, s := p.pull(o); s.Made != 0 || len(s.Record.Useless) != 2 {
		t.Errorf("no room: %+v", s)
	}

	p = newPlace(t, image1, image2)
	p.bare()
	o = p.options()
	o.Policy.Deltas = 0
	p.pull(o)
	flip(p)
	o.MakeDeltas, o.Policy.Deltas = true, All
	if _, s, err := Run(t.Context(), o); err != nil || s.Made != 0 {
		t.Errorf("a damaged image: %+v, %v", s, err)
	}
}
