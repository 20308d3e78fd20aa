package pull

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo"
	"puavo-image-repository/imagerepo/internal/mirrortest"
	"puavo-image-repository/imagerepo/plan"
)

// A whole copy has what its upstream has, signatures too; the next run has nothing to do, and
// a new image is made of an old one and a delta.
func TestWhole(t *testing.T) {
	for _, signed := range []bool{false, true} {
		t.Run(map[bool]string{false: "unsigned", true: "signed"}[signed], func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, image1, image2, other)
			o := p.options()
			root := ""
			if signed {
				p.Sign()
				root = p.Keys.RootFile()
				o.Trust = []string{root}
			}
			p.Build()
			plan, err := MakePlan(t.Context(), o)
			p.Must(err)
			if _, err := os.Stat(p.Dest); err == nil || len(plan.New) == 0 || !plan.Whole {
				t.Errorf("a plan made the copy, or plans nothing: %+v", plan)
			}
			same := func(what string) {
				t.Helper()
				if diff := mirrortest.Difference(shared(mirrortest.Tree(t, p.Dest), mirrortest.Tree(t, p.Mirror))); diff != "" {
					t.Errorf("%s: %s", what, diff)
				}
				if pl, s := p.pull(o); s.Changed || !pl.Nothing() || len(pl.Sources) > 0 {
					t.Errorf("%s, once more: %+v %+v", what, pl, s)
				}
				if got, err := p.Update(p.Dest, root); err != nil {
					t.Errorf("%s: a client has %q: %v", what, got, err)
				}
			}
			pl, s := p.pull(o)
			if s.Rebuilt == 0 || s.Fetched > s.Sent || s.Record.Lacks != (Lag{}) {
				t.Errorf("the first run: %+v", s)
			}
			if pl.Fetch != plan.Fetch || !slices.Equal(pl.Sources, plan.Sources) {
				t.Errorf("it planned %+v, and did %+v", plan, pl)
			}
			same("the first run")

			p.PutFixture(image4)
			p.Build()
			pl, s = p.pull(o)
			if i := slices.IndexFunc(pl.Sources, func(f From) bool { return f.File == image4 }); i < 0 || pl.Sources[i].Base == "" || s.Rebuilt != 1 {
				t.Errorf("a new image: %+v %+v", pl.Sources, s)
			}
			same("a new image")

			p.Replace(image4)
			p.Build()
			if pl, _ := p.pull(o); len(pl.Changed) == 0 || len(pl.Withdraw) == 0 {
				t.Errorf("a replaced image: %+v", pl)
			}
			same("a replaced image")

			p.Must(os.Remove(filepath.Join(p.Dest, ".published.json")))
			p.Must(os.RemoveAll(filepath.Join(p.Dest, ".pull")))
			p.Must(os.Truncate(filepath.Join(p.Dest, image4), 100))
			p.pull(o)
			same("a damaged image")
		})
	}
}

// shared returns two trees without the signed files that one of them has left over: each
// keeps those of the edition before for a while.
func shared(a, b map[string]string) (left, right map[string]string) {
	isLeft := func(other map[string]string) func(name, data string) bool {
		return func(name, _ string) bool {
			_, both := other[name]
			return strings.HasPrefix(name, "tuf/") && !both
		}
	}
	left, right = maps.Clone(a), maps.Clone(b)
	maps.DeleteFunc(left, isLeft(b))
	maps.DeleteFunc(right, isLeft(a))
	return left, right
}

// A copy of its own has what was chosen.
func TestOwn(t *testing.T) {
	t.Parallel()
	p := newPlace(t, image1, image2, image3, other)
	p.Build()
	o := p.options()
	o.Policy = Policy{Series: []string{"puavo-os-amxa-*"}, Images: 2, Deltas: 1}
	o.URL = "https://boot.example.org"
	pl, _ := p.pull(o)
	if pl.Whole {
		t.Error("it is whole")
	}
	got := slices.Sorted(maps.Keys(mirrortest.Tree(t, p.Dest)))
	want := []string{
		"CKSUMS", "SHA256SUMS", "index.html", "index.json", "meta/SHA256SUMS", "meta/" + series + ".json", image2, image3,
		"rdiffs/SHA256SUMS", "rdiffs/puavo-os-amxa-buster-2021-04-13-192449--2021-04-13-193910-amd64.rdiff",
		"rdiffs/puavo-os-amxa-buster-2021-04-13-193910--2022-01-17-120001-amd64.rdiff",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got, err := p.Update(p.Dest, ""); err != nil || got != image3 {
		t.Errorf("a client has %q: %v", got, err)
	}
	if pl, s := p.pull(o); s.Changed {
		t.Errorf("once more: %+v %+v", pl, s)
	}
}

// A whole copy has the torrents of its upstream, one of its own has none. The run after an
// image has left, which waits for its removal, has nothing to do.
func TestTorrents(t *testing.T) {
	t.Parallel()
	p := newPlace(t, image1, image2, other)
	build := func() {
		_, _, err := imagerepo.Build(t.Context(), imagerepo.Options{
			ImageDir: p.Images, MirrorDir: p.Mirror, URL: "https://images.example.org", AllowRemoval: true, NoSync: true,
			Policy: plan.Policy{Targets: 3, Downgrades: true, MaxRatio: 100}, Torrents: plan.Torrents{Of: plan.TorrentsOfAll},
		})
		p.Must(err)
	}
	build()
	o := p.options()
	p.pull(o)
	if diff := mirrortest.Difference(mirrortest.Tree(t, p.Dest), mirrortest.Tree(t, p.Mirror)); diff != "" || !p.Has("torrents/"+image1+".torrent") {
		t.Errorf("%s", diff)
	}
	if pl, s := p.pull(o); s.Changed {
		t.Errorf("once more: %+v %+v", pl, s)
	}
	own := o
	own.Dir, own.URL = filepath.Join(p.Dir, "own"), "https://boot.example.org"
	p.pull(own)
	for name, data := range mirrortest.Tree(t, own.Dir) {
		if strings.Contains(name+data, "torrent") {
			t.Errorf("%s of a copy of its own has a torrent", name)
		}
	}
	p.Leave(other)
	build()
	o.AllowRemoval = true
	p.pull(o)
	o.AllowRemoval = false
	if pl, s := p.pull(o); s.Changed || !p.Has(other) {
		t.Errorf("after a removal: %+v %+v", pl, s)
	}
}
