package publish

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/internal/compacts/compacttest"
	"puavo-image-repository/imagerepo/internal/mirrortest"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// A compact delta that the meta names, and no list, would not be sent.
func TestUnlistedCompact(t *testing.T) {
	p := newPlace(t, image1, image2)
	p.Compact = plan.Compact{Mode: plan.CompactNewest}
	p.build()
	file := meta.CompactPath(compacttest.Put(t, p.Mirror, image1, image2))
	p.Must(os.Remove(filepath.Join(p.Mirror, "compact/SHA256SUMS")))
	if _, _, err := Run(t.Context(), p.options()); !errors.Is(err, ErrMirror) || !strings.Contains(err.Error(), file) {
		t.Error(err)
	}
}

// Compact deltas are published as deltas are: sent before the documents, withdrawn before they
// or their images change, and removed after their grace.
func TestCompact(t *testing.T) {
	p := newPlace(t, image1, image2)
	p.Compact = plan.Compact{Mode: plan.CompactNewest, Full: true}
	p.build()
	p.publish(p.options())
	of := func(base, target string) string { return meta.CompactPath(compacttest.Put(t, p.Mirror, base, target)) }
	delta, full := of(image1, image2), of("", image2)
	p.build() // with torrents
	names := func(files []File) (all []string) {
		for _, f := range files {
			all = append(all, f.Name)
		}
		return all
	}
	same := func(what string) {
		t.Helper()
		if got, want := mirrortest.Tree(t, p.Dest), mirrortest.Tree(t, p.Mirror); !maps.Equal(got, want) {
			t.Errorf("%s: it has %v, want %v", what, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
		}
		if err := mirrortest.Holds(p.Dest); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if pl, s := p.publish(p.options()); s.Changed || !pl.Nothing() {
			t.Errorf("%s, once more: %+v %+v", what, pl, s)
		}
	}
	pl, _ := p.publish(p.options())
	if got := names(pl.New); !slices.Contains(got, delta) || !slices.Contains(got, full) || !slices.Contains(pl.Documents, "compact/SHA256SUMS") {
		t.Errorf("two new ones: %+v", pl)
	}
	same("two new ones")

	p.Replace(image1)
	p.build()
	if of(image1, image2) != delta {
		t.Fatal("another name")
	}
	p.build()
	pl, _ = p.publish(p.options())
	if !slices.Contains(names(pl.Changed), delta) || !slices.Contains(pl.Withdraw, "compact/SHA256SUMS") {
		t.Errorf("one was made again: %+v", pl)
	}
	same("one was made again")

	p.Compact = plan.Compact{}
	p.build()
	o := p.options()
	o.Grace = 0
	pl, _ = p.publish(o)
	if got := names(pl.Remove); !slices.Contains(got, delta) || !slices.Contains(got, full) {
		t.Errorf("none are wanted: %+v", pl)
	}
	if _, err := os.Stat(p.Dest + "/compact/SHA256SUMS"); err == nil {
		t.Error("the list is left")
	}
	same("none are wanted")
}
