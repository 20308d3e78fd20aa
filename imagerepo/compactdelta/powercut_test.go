package compactdelta

import (
	"fmt"
	"math/rand/v2"
	"path"
	"path/filepath"
	"testing"

	"puavo-image-repository/cksum"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/powercut"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

// digests are those of contents, each taken once.
type digests map[*powercut.Content]cksum.Sums

func (d digests) of(c *powercut.Content) cksum.Sums {
	sums, ok := d[c]
	if !ok {
		h := cksum.New()
		if c != nil {
			h.Write(c.Data)
		}
		sums = h.Sums()
		d[c] = sums
	}
	return sums
}

// wrong returns an error for a tree in which a document does not parse, or names what is not
// there, or is not as it says.
func (d digests) wrong(t powercut.Tree) error {
	for doc, content := range t {
		if path.Dir(doc) != mirror.MetaDir || path.Ext(doc) != ".json" {
			continue
		}
		s, err := meta.ParseSeries(content.Data)
		if err != nil {
			return fmt.Errorf("%s: %w", doc, err)
		}
		named := make(map[string]cksum.Sums)
		for _, im := range s.Images {
			named[im.Name.String()] = im.Sums
			for _, diff := range im.Diffs {
				named[meta.DeltaPath(diff.Filename)] = diff.Sums
			}
			for _, c := range im.Compact {
				named[meta.CompactPath(c.Filename)] = c.Sums
			}
		}
		for file, sums := range named {
			if d.of(t[file]) != sums {
				return fmt.Errorf("%s: %s is not as it says", doc, file)
			}
		}
	}
	return nil
}

// Whenever the power is cut, all that the meta names is there and right, and the next run ends
// as one that nothing happened to.
func TestPowerCut(t *testing.T) {
	p := newPlace(t, image1, image3, image4)
	p.NoSync, p.Torrents = false, plan.Torrents{Of: plan.TorrentsOfDeltas}
	p.build()
	var some []powercut.Tree
	n, d := 0, make(digests)
	disk := powercut.Watch(t, p.MirrorDir, func(next atomicfile.Change, trees func() []powercut.Tree) error {
		if n++; rand.IntN(testdata.Scale(1, 8)) > 0 {
			return nil
		}
		all := trees()
		for _, tree := range all {
			if err := d.wrong(tree); err != nil {
				t.Errorf("before change %d, %s: %v", n, next, err)
			}
		}
		if rand.IntN(20) == 0 {
			some = append(some, all[rand.IntN(len(all))])
		}
		return nil
	})
	p.run()
	disk.Stop()
	want := p.tree()
	for _, tree := range disk.Trees() {
		if err := d.wrong(tree); err != nil || tree[meta.CompactPath(compactOf(image1, image4))] == nil {
			t.Errorf("after the run: %v", err)
		}
	}
	t.Logf("%d changes, %d runs after a power cut", n, len(some))
	for i, tree := range some {
		p.MirrorDir = filepath.Join(t.TempDir(), "mirror")
		if err := tree.Lay(p.MirrorDir); err != nil {
			t.Fatal(err)
		}
		p.build()
		if p.run(); p.tree() != want {
			t.Errorf("run %d:\n%s\nwant\n%s", i, p.tree(), want)
		}
	}
}
