package trust

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/powercut"
)

// Whenever the power is cut while a mirror is signed, clients old and new verify what
// is there, and the next run ends as any.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	for _, c := range mirrorChanges {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			first := newPlace(t)
			begins := first.newClient()
			first.sign()
			if err := begins.upToDate(); err != nil {
				t.Fatal(err)
			}
			first.now = first.now.Add(time.Hour)
			c.change(first)
			n := 0
			some := make(map[int]powercut.Tree)
			powercut.Watch(t, first.mirror, func(next atomicfile.Change, trees func() []powercut.Tree) error {
				all := trees()
				if kind := next.Kind; kind == atomicfile.FlushDir || kind == atomicfile.Rename || rand.IntN(4) == 0 {
					some[n] = all[rand.IntN(len(all))]
				}
				n++
				return nil
			})
			if _, err := first.trySyncedSign(); err != nil {
				t.Fatal(err)
			}
			for _, at := range slices.Sorted(maps.Keys(some)) {
				p, follows := first.fork(begins)
				if err := os.RemoveAll(p.mirror); err != nil {
					t.Fatal(err)
				}
				if err := some[at].Lay(p.mirror); err != nil {
					t.Fatal(err)
				}
				if err := os.RemoveAll(filepath.Join(p.mirror, ".repo/tmp")); err != nil { // as the next run does
					t.Fatal(err)
				}
				p.verifies(follows, fmt.Sprintf("%s, cut before change %d of %d", c.name, at, n))
				p.now = p.now.Add(time.Hour)
				p.sign()
				if err := follows.upToDate(); err != nil {
					t.Errorf("after change %d: %v", at, err)
				}
			}
		})
	}
}

// trySyncedSign signs the mirror as a run does that flushes.
func (p *place) trySyncedSign() (changed bool, err error) {
	dir, err := atomicfile.Open(p.mirror)
	if err != nil {
		return false, err
	}
	defer dir.Close()
	return p.keys().Sign(p.t.Context(), dir)
}

// Whenever the power is cut while keys are changed, the keys directory opens, with all
// that was there before.
func TestPowerCutOfKeys(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	before := p.keyFiles()
	powercut.Watch(t, p.Dir, func(next atomicfile.Change, trees func() []powercut.Tree) error {
		for _, tree := range trees() {
			for name, data := range before {
				if tree[name] == nil || string(tree[name].Data) != data {
					t.Errorf("before %s: %s is not what it was", next, name)
				}
			}
			if root := tree["2.root.json"]; root != nil && len(root.Data) == 0 {
				t.Errorf("before %s: an empty root", next)
			}
		}
		return nil
	})
	k, err := Open(p.Options)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if _, err := k.Rotate(Timestamp, ""); err != nil {
		t.Fatal(err)
	}
	if p.keys().newest().Signed.Version != 2 {
		t.Error("no second root")
	}
}

// keyFiles returns the files of the keys directory.
func (p *place) keyFiles() map[string]string {
	p.t.Helper()
	files := make(map[string]string)
	names, err := filepath.Glob(filepath.Join(p.Dir, "*"))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			p.t.Fatal(err)
		}
		files[filepath.Base(name)] = string(data)
	}
	return files
}
