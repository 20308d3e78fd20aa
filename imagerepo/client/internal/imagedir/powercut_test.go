package imagedir

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/powercut"
	"puavo-image-repository/meta"
)

// Whenever the power is cut, an image has its name, or what was made of it is there
// with its journal; the default link leads to a whole image; and what was done lasts.
func TestPowerCut(t *testing.T) {
	holds := func(tree powercut.Tree, file, text string) bool {
		return tree[file] != nil && string(tree[file].Data) == text
	}
	for _, c := range []struct {
		name  string
		do    func(d *Dir) error
		whole func(tree powercut.Tree) bool // at any instant
		done  func(tree powercut.Tree) bool
	}{
		{"an image gets its name", func(d *Dir) error { return d.Install(name(t, imageC), sumsOf(imageC+".tmp")) },
			func(tree powercut.Tree) bool {
				return holds(tree, imageC, imageC+".tmp") || holds(tree, imageC+".tmp", imageC+".tmp") && tree[imageC+".tmp.journal"] != nil
			},
			func(tree powercut.Tree) bool {
				return holds(tree, imageC, imageC+".tmp") && tree[imageC+".tmp.journal"] == nil
			}},
		{"the default link", func(d *Dir) error { return d.Link("ltsp.img").Set(name(t, imageB)) },
			func(tree powercut.Tree) bool {
				return holds(tree, "ltsp.img", imageA) || holds(tree, "ltsp.img", imageB)
			},
			func(tree powercut.Tree) bool {
				return holds(tree, "ltsp.img", imageB) && holds(tree, "ltsp-backup.img", imageA)
			}},
		{"old images are removed", func(d *Dir) error {
			removed, err := d.prune(noLoops, []meta.Name{name(t, imageB), name(t, imageD)}, 1, nil)
			if len(removed) != 1 {
				err = errors.Join(err, errors.New("not one is removed"))
			}
			return err
		}, func(tree powercut.Tree) bool { return holds(tree, imageD, imageD) },
			func(tree powercut.Tree) bool { return tree[imageB] == nil }},
	} {
		dir := t.TempDir()
		fill(t, dir, imageA, imageB, imageC+".tmp", imageC+".tmp.journal", imageD)
		link(t, dir, "ltsp.img="+imageA)
		// What is known of files is as it was, so that writing it flushes nothing.
		if err := os.WriteFile(filepath.Join(dir, cacheName), []byte("{}\n"), 0o666); err != nil {
			t.Fatal(err)
		}
		disk := powercut.Watch(t, dir, func(next atomicfile.Change, trees func() []powercut.Tree) error {
			for _, tree := range trees() {
				if !c.whole(tree) {
					t.Errorf("%s, before %s: left are %v", c.name, next, tree)
				}
			}
			return nil
		})
		if err := c.do(lock(t, dir)); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		disk.Stop()
		for _, tree := range disk.Trees() {
			if !c.done(tree) {
				t.Errorf("%s does not last: left are %v", c.name, tree)
			}
		}
	}
}
