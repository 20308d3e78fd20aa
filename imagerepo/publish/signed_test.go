package publish

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirrortest"
)

var errEnded = errors.New("the run ends here")

// endBefore makes a run end when it is about to give a file its name for the n-th time.
func (p *place) endBefore(name string, n int) (undo func()) {
	return atomicfile.Observe(p.Dest, func(c atomicfile.Change) error {
		if c.Kind == atomicfile.Rename && c.To == name {
			if n--; n == 0 {
				return errEnded
			}
		}
		return nil
	})
}

// A signed mirror is published for the first time: a client that verifies can update.
func TestFirstSigned(t *testing.T) {
	p := newPlace(t, image1, image2)
	p.CopyKeys()
	p.build()
	undo := p.endBefore("tuf/timestamp.json", 1)
	if _, _, err := Run(t.Context(), p.options()); !errors.Is(err, errEnded) {
		t.Fatal(err)
	}
	undo()
	if !p.Has("tuf/1.root.json") || !p.Has("SHA256SUMS") {
		t.Error("the timestamp comes before the root or the lists")
	}
	p.publish(p.options())
	if got, err := p.Update(p.Dest, p.root()); err != nil || got != image2 {
		t.Errorf("a client that verifies has %q: %v", got, err)
	}
}

// When changed payload gets its names, no document at the destination names it, not even the
// page. A client that verifies signatures gets the newest image that is left, or, if the
// publisher has no keys, an error for the digest of the changed image.
func TestWithdrawn(t *testing.T) {
	for name, keys := range map[string]bool{"with the keys": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t, image1, image2, image3)
			p.CopyKeys()
			p.build()
			o := p.options()
			p.publish(o)
			p.Replace(image3)
			p.build()
			if keys {
				o.Sign = p.Keys
			}
			undo := p.endBefore("meta/"+series+".json", 2) // the first is without the image
			if _, _, err := Run(t.Context(), o); !errors.Is(err, errEnded) {
				t.Fatal(err)
			}
			undo()
			if data := p.Read("dest/" + image3); string(data) != string(p.Read("images/"+image3)) {
				t.Error("the image has not its name yet")
			}
			version := strings.TrimSuffix(strings.TrimPrefix(image3, "puavo-os-amxa-buster-"), "-amd64.img")
			for file, data := range mirrortest.Tree(t, p.Dest) {
				if dir := filepath.Dir(file); (dir == "." || dir == "meta") && filepath.Ext(file) != ".img" || filepath.Base(file) == "SHA256SUMS" {
					if strings.Contains(data, version) {
						t.Errorf("%s names %s", file, image3)
					}
				}
			}
			p.served(p.Dest, "withdrawn")
			got, err := p.Update(p.Dest, p.root())
			if keys && (err != nil || got != image2) || !keys && !isRefused(err, image3) {
				t.Errorf("a client that verifies has %q: %v", got, err)
			}
			p.publish(o)
			if got, err := p.Update(p.Dest, p.root()); err != nil || got != image3 {
				t.Errorf("in the end, a client that verifies has %q: %v", got, err)
			}
		})
	}
}

// A destination without a page does not get one when something is withdrawn.
func TestNoPage(t *testing.T) {
	p := newPlace(t, image1, image2)
	p.build()
	p.publish(p.options())
	p.remove("dest/index.html")
	p.Replace(image2)
	p.build()
	undo := p.endBefore(image2, 1)
	if _, _, err := Run(t.Context(), p.options()); !errors.Is(err, errEnded) {
		t.Fatal(err)
	}
	undo()
	if _, err := os.Stat(filepath.Join(p.Dest, "index.html")); err == nil {
		t.Error("it was made")
	}
}
