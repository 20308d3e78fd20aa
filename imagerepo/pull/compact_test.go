package pull

import (
	"crypto/sha256"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/internal/compacts/compacttest"
	"puavo-image-repository/imagerepo/internal/diskspace"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/mirrortest"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// withCompact returns a place whose mirror has compact deltas to image3.
func withCompact(t testing.TB) (p *place, delta, full string) {
	t.Helper()
	p = newPlace(t, image1, image2, image3)
	p.Compact = plan.Compact{Mode: plan.CompactNewest, Full: true}
	p.Build()
	delta = meta.CompactPath(compacttest.Put(t, p.Mirror, image2, image3))
	return p, delta, meta.CompactPath(compacttest.Put(t, p.Mirror, "", image3))
}

// room returns how many bytes the images, the deltas and these compact deltas have.
func room(p *place, except ...string) (n int64) {
	for name, data := range mirrortest.Tree(p.T, p.Mirror) {
		if ext := filepath.Ext(name); (ext == ".img" || ext == ".rdiff" || ext == ".cdelta") && !slices.Contains(except, name) {
			n += int64(len(data))
		}
	}
	return n
}

// A whole copy has the compact deltas of its upstream, and loses them as it does.
func TestWholeCompact(t *testing.T) {
	p, delta, full := withCompact(t)
	p.Sign()
	p.Build()
	o := p.options()
	o.Trust = []string{p.Keys.RootFile()}
	pl, _ := p.pull(o)
	if diff := mirrortest.Difference(shared(mirrortest.Tree(t, p.Dest), mirrortest.Tree(t, p.Mirror))); diff != "" || !p.Has(delta) || !p.Has(full) {
		t.Errorf("it has %s", diff)
	}
	if !slices.ContainsFunc(pl.Sources, func(f From) bool { return f.File == delta && f.Fetch > 0 }) {
		t.Errorf("%+v", pl.Sources)
	}
	if pl, s := p.pull(o); s.Changed {
		t.Errorf("once more: %+v %+v", pl, s)
	}
	c, err := openToLook(t.Context(), o)
	p.Must(err)
	defer c.close()
	var want int64
	for name := range mirrortest.Tree(t, p.Dest) {
		if ext := filepath.Ext(name); ext == ".img" || ext == ".rdiff" || ext == ".cdelta" {
			want += diskspace.Used(c.root, name)
		}
	}
	if got, err := c.owned(t.Context()); err != nil || got != want {
		t.Errorf("images and deltas take %d bytes, want %d, %v", got, want, err)
	}
	p.Compact.Full = false
	p.Build()
	o.Grace = 0
	p.pull(o)
	if diff := mirrortest.Difference(shared(mirrortest.Tree(t, p.Dest), mirrortest.Tree(t, p.Mirror))); diff != "" || !p.Has(delta) || p.Has(full) {
		t.Errorf("without one it has %s", diff)
	}
}

// A whole copy leaves out those of a format that this version does not know; its documents say
// so of themselves.
func TestUnknownCompact(t *testing.T) {
	p, delta, full := withCompact(t)
	doc, list := filepath.Join(p.Mirror, "meta", series+".json"), filepath.Join(p.Mirror, "meta", "SHA256SUMS")
	known := `"filename":"` + filepath.Base(full) + `","format":"1"`
	data, err := os.ReadFile(doc)
	p.Must(err)
	later := strings.Replace(string(data), known, strings.Replace(known, `"1"`, `"2"`, 1), 1)
	p.Must(os.WriteFile(doc, []byte(later), 0o666))
	p.Must(os.WriteFile(list, mirror.FormatList([]cksum.SHA256Line{{SHA256: sha256.Sum256([]byte(later)), Path: "meta/" + series + ".json"}}), 0o666))
	if later == string(data) {
		t.Fatal("the meta is as it was")
	}
	for _, o := range []Options{p.options(), func() Options {
		o := p.options()
		o.Dir, o.URL = p.Dest+"2", "https://boot.example.org"
		return o
	}()} {
		p.pull(o)
		got := mirrortest.Tree(t, o.Dir)
		if _, has := got[full]; has || got[delta] == "" || strings.Contains(got["compact/SHA256SUMS"], filepath.Base(full)) || !strings.Contains(got["compact/SHA256SUMS"], filepath.Base(delta)) {
			t.Errorf("%q", slices.Sorted(maps.Keys(got)))
		}
		if pl, s := p.pull(o); s.Changed {
			t.Errorf("once more: %+v %+v", pl, s)
		}
	}
}

// A copy of its own has the compact deltas that were chosen, with urls of its own, and gives
// them up first where there is no room.
func TestOwnCompact(t *testing.T) {
	p, delta, full := withCompact(t)
	for _, c := range []struct {
		name   string
		change func(o *Options)
		want   []string
	}{
		{"all deltas", func(*Options) {}, []string{delta, full}},
		{"no deltas", func(o *Options) { o.Policy.Deltas = 0 }, nil},
		{"the newest image, in use by none", func(o *Options) { o.Policy.Images = 1 }, []string{delta, full}},
		{"no room", func(o *Options) { o.MaxSize = room(p, delta, full) }, nil},
		{"little room", func(o *Options) {
			o.MaxSize = room(p, full)
			o.Policy.Uses = Uses{strings.TrimSuffix(image2, ".img"): 1}
		}, []string{delta}},
	} {
		o := p.options()
		o.Dir, o.URL = filepath.Join(t.TempDir(), "dest"), "https://boot.example.org"
		c.change(&o)
		pl, _ := p.pull(o)
		var got []string
		for _, file := range slices.Sorted(maps.Keys(mirrortest.Tree(t, o.Dir))) {
			if strings.HasSuffix(file, ".cdelta") {
				got = append(got, file)
			}
		}
		if !slices.Equal(got, c.want) || pl.Whole {
			t.Errorf("%s: it has %q, want %q; dropped %+v", c.name, got, c.want, pl.Dropped)
		}
		doc, err := os.ReadFile(filepath.Join(o.Dir, "meta", series+".json"))
		p.Must(err)
		for _, file := range []string{delta, full} {
			if named := strings.Contains(string(doc), `"https://boot.example.org/`+file+`"`); named != slices.Contains(c.want, file) {
				t.Errorf("%s: it names %s: %v", c.name, file, named)
			}
		}
		if pl, s := p.pull(o); s.Changed {
			t.Errorf("%s, once more: %+v %+v", c.name, pl, s)
		}
	}
}
