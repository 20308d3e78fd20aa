package publish

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/testdata"
)

// names returns the names of all files that a plan writes.
func names(pl Plan) map[string]bool {
	all := make(map[string]bool)
	for _, f := range slices.Concat(pl.New, pl.Changed) {
		all[f.Name] = true
	}
	for _, name := range slices.Concat(pl.Signed, pl.Withdraw, pl.Documents, pl.Trust) {
		all[name] = true
	}
	return all
}

// The plan of a dry run names all files that the run writes, or says that it signs. The plan of
// the run itself names all.
func TestPlanNamesAll(t *testing.T) {
	for _, c := range []struct {
		name     string
		unsigned bool
		first    bool // nothing was published before
		change   func(p *place)
		signs    bool // a run with the keys
	}{
		{"unsigned, an image is replaced", true, false, func(p *place) { p.Replace(image3); p.build() }, false},
		{"the first publication", false, true, func(*place) {}, false},
		{"nothing new", false, false, func(*place) {}, false},
		{"a new image", false, false, func(p *place) { p.Put(image4, testdata.Read(p.T, "images/"+image4)); p.build() }, false},
		{"an image is replaced", false, false, func(p *place) { p.Replace(image3); p.build() }, true},
		{"built without the keys", false, false, func(p *place) {
			keys := p.Keys
			p.Keys = nil
			p.Put(image4, testdata.Read(p.T, "images/"+image4))
			p.build()
			p.Keys = keys
		}, true},
		{"the destination was signed later", false, false, (*place).later, true},
		{"new keys, and signed twice since", false, false, func(p *place) {
			p.rotate()
			p.Put(image4, testdata.Read(p.T, "images/"+image4))
			p.build()
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, image1, image2, image3)
			if !c.unsigned {
				p.CopyKeys()
			}
			p.build()
			o := p.options()
			if !c.first {
				p.publish(o)
			}
			c.change(p)
			without, err := MakePlan(t.Context(), o)
			p.Must(err)
			if p.Keys != nil {
				o.Sign = p.Keys
			}
			pl, err := MakePlan(t.Context(), o)
			p.Must(err)
			if pl.Signs != c.signs || without.Signs || c.signs && pl.Nothing() {
				t.Errorf("it signs: %v, want %v; without the keys: %v", pl.Signs, c.signs, without.Signs)
			}
			o.Signs = true // which Run does not look at
			if c.signs != !maps.Equal(p.wrote(o), names(pl)) {
				t.Errorf("%v is not what it wrote", slices.Sorted(maps.Keys(names(pl))))
			}
		})
	}
}

// wrote publishes, and returns the names of all files that it wrote, which must be those of
// its plan.
func (p *place) wrote(o Options) map[string]bool {
	p.T.Helper()
	wrote := make(map[string]bool)
	defer atomicfile.Observe(p.Dest, func(c atomicfile.Change) error {
		if c.Kind == atomicfile.Rename && !strings.HasPrefix(c.To, ".publish") {
			wrote[c.To] = true
		}
		return nil
	})()
	o.Jobs = 1 // observed one after another
	pl, _ := p.publish(o)
	if want := names(pl); !maps.Equal(wrote, want) || pl.Signs {
		p.T.Errorf("it wrote %v, and planned %v", slices.Sorted(maps.Keys(wrote)), slices.Sorted(maps.Keys(want)))
	}
	return wrote
}
