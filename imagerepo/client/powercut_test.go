package client_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/client"
	"puavo-image-repository/imagerepo/internal/powercut"
)

// wholeImages returns an error for a tree in which what has an image's name, or is
// one of the links, is no whole image, or the default link is gone.
func wholeImages(t powercut.Tree, images map[string][]byte) error {
	for file, c := range t {
		if path.Ext(file) != ".img" || file[0] == '.' {
			continue
		}
		link := file == defaultLink || file == backupLink
		whole := false
		for im, data := range images {
			whole = whole || (link || file == im) && bytes.Equal(c.Data, data)
		}
		if !whole {
			return fmt.Errorf("%s is no whole image: it has %d bytes", file, len(c.Data))
		}
	}
	if t[defaultLink] == nil {
		return fmt.Errorf("the default link is gone")
	}
	return nil
}

// Whenever the power is cut, whole images are left, and the default link leads to one
// of them; the next run ends as if nothing had happened.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, mirror, have, image string
		keep                      int
	}{
		{"over a delta", "big", big1, big2, 0},
		{"over two in a row", "chain", chain1, chain3, 0},
		{"the full image", "big", other, big2, 0},
		{"and old images are removed", "all", image1, image4, 1},
		{"over a compact delta", "compact all", image3, image4, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			mirror := access["directory"](t, c.mirror)
			p := newPlace(t, c.have)
			update := func(p *place, image string) error {
				o := p.options(mirror, image)
				o.DefaultLink, o.GrubLabels, o.Keep, o.Prefer = defaultLink, true, c.keep, client.PreferTraffic
				if image == c.have { // to have a default link
					o.Mirrors = []string{access["directory"](t, map[string]string{big1: "big", chain1: "chain", other: "all", image1: "all", image3: "all"}[image])}
				}
				_, err := client.Update(t.Context(), o)
				return err
			}
			if err := update(p, c.have); err != nil {
				t.Fatal(err)
			}
			images := make(map[string][]byte)
			for _, im := range []string{c.have, c.image, chain2} {
				images[im] = imageData(im)
			}
			n := 0
			some := make(map[int]powercut.Tree)
			disk := powercut.Watch(t, p.dir, func(next atomicfile.Change, trees func() []powercut.Tree) error {
				all := trees()
				for _, tree := range all {
					if err := wholeImages(tree, images); err != nil && !t.Failed() {
						t.Errorf("before change %d, %s: %v", n, next, err)
					}
				}
				if rand.IntN(8) == 0 {
					some[n] = all[rand.IntN(len(all))]
				}
				n++
				return nil
			})
			if err := update(p, c.image); err != nil {
				t.Fatal(err)
			}
			disk.Stop()
			for _, tree := range disk.Trees() {
				if tree[c.image] == nil || !bytes.Equal(tree[defaultLink].Data, images[c.image]) || tree[label(c.image, "default")] == nil || tree[label(c.have, "default")] != nil {
					t.Error("what the run has done does not last")
				}
			}
			t.Logf("%d changes, %d runs after a power cut", n, len(some))
			for at, tree := range some {
				after := newPlaceIn(t, t.TempDir())
				if err := tree.Lay(after.dir); err != nil {
					t.Fatal(err)
				}
				if err := update(after, c.image); err != nil {
					t.Errorf("after change %d: %v", at, err)
				}
				if got := after.files(); got[c.image] != string(images[c.image]) || got[defaultLink] != got[c.image] {
					t.Errorf("after change %d the image is not in use", at)
				}
				after.wantLabels(label(c.image, "default")) // the backup link is a copy there
				for f := range after.files() {
					if strings.Contains(f, ".tmp") || strings.Contains(f, ".image_updates_link") {
						t.Errorf("after change %d: left is %s", at, f)
					}
				}
			}
		})
	}
}
