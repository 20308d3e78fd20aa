package imagerepo

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

// What has the name of a delta and is no file is not waited at: the delta is made again,
// as if it were missing. That a directory is there is an error.
func TestOddDelta(t *testing.T) {
	p := newPlace(t, image3, image4)
	p.build()
	n3, _ := meta.ParseName(image3)
	n4, _ := meta.ParseName(image4)
	delta := meta.DeltaName(n3, n4)
	t.Chdir(filepath.Join(p.MirrorDir, "rdiffs")) // the path of a socket is short
	for _, kind := range testdata.OddFiles(t) {
		if err := os.Remove(delta); err != nil {
			t.Fatal(err)
		}
		if err := kind.Make(delta); err != nil {
			t.Fatal(err)
		}
		testdata.Promptly(t, kind.Name, func() {
			_, s, err := Build(t.Context(), p.Options)
			if kind.Name == "a directory" {
				if err == nil {
					t.Errorf("%s: no error", kind.Name)
				}
				if err := os.Remove(delta); err != nil {
					t.Error(err)
				}
				_, s, err = Build(t.Context(), p.Options)
			}
			if err != nil || s.Made != 1 || s.Kept != 1 {
				t.Errorf("%s: %d made, %d kept, %v", kind.Name, s.Made, s.Kept, err)
			}
			p.valid()
		})
	}
}

// An image that is replaced by a pipe while the run works fails its series, and is not
// waited at, whether it is read, or mapped as a base or a target.
func TestImageBecomesAPipe(t *testing.T) {
	n3, _ := meta.ParseName(image3)
	n4, _ := meta.ParseName(image4)
	for _, c := range []struct {
		when  string
		kind  atomicfile.Kind
		to    string
		image string
	}{
		{"before it is read", atomicfile.LinkFrom, mirror.TmpPath(image4), image4},
		{"before it is a base", atomicfile.Create, mirror.TmpPath(meta.DeltaName(n3, n4)), image3},
		{"before it is a target", atomicfile.Create, mirror.TmpPath(meta.DeltaName(n3, n4)), image4},
	} {
		p := newPlace(t, image3, image4, other)
		swapped := false
		stop := atomicfile.Observe(p.MirrorDir, func(change atomicfile.Change) error {
			if change.Kind != c.kind || change.To != c.to && change.Name != c.to || swapped {
				return nil
			}
			swapped = true
			path := filepath.Join(p.ImageDir, c.image)
			return errors.Join(os.Remove(path), testdata.OddFile(t, "a pipe").Make(path))
		})
		testdata.Promptly(t, c.when, func() {
			if p.oneFails(); !swapped {
				t.Errorf("%s: it was not replaced", c.when)
			}
		})
		stop()
	}
}
