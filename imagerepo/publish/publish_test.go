package publish

import (
	"maps"
	"os"
	"path/filepath"
	"puavo-image-repository/imagerepo/internal/mirrortest"
	"testing"
)

// A destination has what the mirror has, whatever was there, and the second run has nothing
// to do.
func TestRun(t *testing.T) {
	p := newPlace(t, image1, image2, other)
	p.build()
	if _, s := p.publish(p.options()); s.Files == 0 || s.Sent == 0 || s.Written == 0 || !s.Changed {
		t.Errorf("the first run: %+v", s)
	}
	same := func(what string) {
		t.Helper()
		if got, want := mirrortest.Tree(t, p.Dest), mirrortest.Tree(t, p.Mirror); !maps.Equal(got, want) {
			t.Errorf("%s: it has %v, want %v", what, maps.Keys(got), maps.Keys(want))
		}
		if err := mirrortest.Holds(p.Dest); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if pl, s := p.publish(p.options()); s.Changed || !pl.Nothing() {
			t.Errorf("%s, once more: %+v %+v", what, pl, s)
		}
	}
	same("the first run")
	if got, err := p.Update(p.Dest, ""); err != nil || got != image2 {
		t.Errorf("a client has %q: %v", got, err)
	}

	p.Put(image4, p.Read("images/"+image2))
	p.build()
	p.publish(p.options())
	same("a new image")

	p.Replace(image4)
	p.build()
	if pl, _ := p.publish(p.options()); len(pl.Changed) == 0 || len(pl.Withdraw) == 0 {
		t.Errorf("a replaced image: %+v", pl)
	}
	same("a replaced image")

	os.Remove(filepath.Join(p.Dest, ".published.json"))
	same("without a record")
	os.WriteFile(filepath.Join(p.Dest, image4), []byte("damaged"), 0o666)
	p.publish(p.options())
	same("a damaged image")
}
