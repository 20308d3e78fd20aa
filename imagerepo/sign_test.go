package imagerepo

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirror"
)

// What is published is signed when all of it is there, and before what is no longer
// named goes.
func TestSign(t *testing.T) {
	p := newPlace(t, image2, image3, image4)
	signed := 0
	p.Sign = func(ctx context.Context, dir atomicfile.Dir) (bool, error) {
		signed++
		for _, name := range []string{mirror.Index, mirror.CKSUMS, mirror.SHA256, image2, image4} {
			if _, err := dir.Lstat(name); err != nil {
				t.Errorf("run %d: %v", signed, err)
			}
		}
		return signed == 3, ctx.Err()
	}
	for run, want := range []struct{ remove, changed bool }{{false, true}, {false, false}, {false, true}, {true, true}} {
		if want.remove {
			p.remove(image2)
		}
		if s := p.build(); s.Changed != want.changed || signed != run+1 {
			t.Errorf("run %d: changed %v, signed %d times", run, s.Changed, signed)
		}
	}
	if _, err := os.Lstat(filepath.Join(p.MirrorDir, image2)); err == nil {
		t.Error("what is no longer named is there")
	}
}

// A run that cannot sign fails, and removes nothing.
func TestSignFails(t *testing.T) {
	p := newPlace(t, image2, image3, image4)
	p.build()
	p.remove(image2)
	failure := errors.New("no key")
	p.Sign = func(context.Context, atomicfile.Dir) (bool, error) { return false, failure }
	if _, _, err := Build(t.Context(), p.Options); !errors.Is(err, failure) {
		t.Errorf("%v", err)
	}
	p.valid()
	if _, err := os.Lstat(filepath.Join(p.MirrorDir, image2)); err != nil {
		t.Error(err)
	}
	p.Sign = nil
	if p.build(); p.there(image2) {
		t.Error("the next run leaves what is no longer named")
	}
}
