package imagerepo

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"puavo-image-repository/testdata"
)

// Images that are links of one file are built, replaced and removed, and what the tool
// does to the names of one is no change of the others.
func TestLinksOfOneFile(t *testing.T) {
	twin := "puavo-os-free-buster-2022-03-04-140532-amd64.img"
	p := newPlace(t, image3, image4, other)
	link := func(from, to string) {
		to = filepath.Join(p.ImageDir, to)
		os.Remove(to)
		if err := os.Link(filepath.Join(p.ImageDir, from), to); err != nil {
			t.Fatal(err)
		}
	}
	link(image4, image2)
	link(image4, twin)
	p.build()
	if s := p.build(); s.Changed {
		t.Errorf("another run changes something: %+v", s)
	}
	link(other, image4) // another content of another size
	link(image3, image2)
	p.build()
	if s := p.build(); s.Changed {
		t.Errorf("after a change: %+v", s)
	}
	p.remove(twin)
	p.remove(image2)
	p.build()
	if s := p.build(); s.Changed || p.there(twin) || p.there(image2) {
		t.Errorf("after a removal: %+v", s)
	}
	fresh := p.copied()
	if fresh.build(); fresh.tree() != p.tree() {
		t.Errorf("got\n%s\nwant\n%s", p.tree(), fresh.tree())
	}
}

// An image that changes between the scan and its link is not taken for what was
// scanned, though only its change time tells.
func TestChangedBeforeItsLink(t *testing.T) {
	p := newPlace(t, image3, image4)
	r := newRun(p.Options)
	if err := r.scan(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(p.ImageDir, image4)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	data := p.read(image4)
	data[len(data)/2]++
	if err := errors.Join(os.WriteFile(path, data, 0o666), os.Chtimes(path, info.ModTime(), info.ModTime())); err != nil {
		t.Fatal(err)
	}
	for n := range r.source.Images {
		changed := n == name(image4)
		if err := r.source.Unchanged(n); (err != nil) != changed || changed && !errors.Is(err, ErrChanged) {
			t.Errorf("%s: %v", n, err)
		}
	}
}

// What it costs to look at images that were touched grows with their number, and not
// with its square: the documents are parsed once.
func TestTouchedImagesCost(t *testing.T) {
	cost := func(n int) float64 {
		p := newPlace(t)
		p.NoSync, p.Policy.Targets = true, 1
		p.Log = slog.New(slog.DiscardHandler)
		for i := range n {
			p.write(fmt.Sprintf("puavo-os-many-buster-2022-01-01-%06d-amd64.img", i), []byte("no squashfs, but for its name"))
		}
		p.build()
		later := time.Now().Add(time.Second)
		for _, im := range testGlob(t, filepath.Join(p.ImageDir, "*")) {
			if err := os.Chtimes(im, later, later); err != nil {
				t.Fatal(err)
			}
		}
		return float64(testdata.Allocated(func() { p.build() }))
	}
	if few, many := cost(40), cost(160); many > 6*few {
		t.Errorf("four times as many images cost %.1f times as much", many/few)
	}
}
