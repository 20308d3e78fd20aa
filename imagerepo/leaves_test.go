package imagerepo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"puavo-image-repository/cksum"
	"puavo-image-repository/delta"
	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/mirror"
	"puavo-image-repository/imagerepo/internal/powercut"
	"puavo-image-repository/meta"
)

// signatures returns the names of the signatures that the mirror has.
func (p *place) signatures() (images []string) {
	p.t.Helper()
	files, err := filepath.Glob(filepath.Join(p.MirrorDir, mirror.Private, "signatures", "*"))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, f := range files {
		images = append(images, strings.TrimSuffix(filepath.Base(f), ".sig"))
	}
	return images
}

// signatureOf returns the signature of a content.
func signatureOf(t *testing.T, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	s := delta.NewSigner(&b, delta.Kept)
	if _, err := s.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// An image is signed in the run in which it leaves, or later in its grace, and then only
// if that is asked for. By its signature it stays a base.
func TestSignedWhenItLeaves(t *testing.T) {
	for _, c := range []struct {
		name   string
		leave  func(p *place) // after image1 was removed, before the run that keeps signatures
		grace  time.Duration
		signed bool
		there  bool // its file, in the end
	}{
		{"at once", func(*place) {}, 0, true, false},
		{"with a grace", func(*place) {}, time.Hour, true, true},
		{"in its grace", func(p *place) { p.Policy.Grace = time.Hour; p.build() }, time.Hour, true, true},
		{"when its grace is over", func(p *place) { p.Policy.Grace = time.Hour; p.build() }, 0, true, false},
		{"too late", func(p *place) { p.build() }, 0, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t, image1, image2, image3)
			p.build()
			p.remove(image1)
			c.leave(p)
			if got := p.signatures(); len(got) > 0 {
				t.Errorf("signed though nobody asked for it: %v", got)
			}
			p.add(image4)
			p.Policy.KeepSignatures, p.Policy.Grace = true, c.grace
			p.build()
			im, _ := p.published(image4)
			if _, found := im.Diff(name(image1)); found != c.signed || p.there(image1) != c.there || slices.Contains(p.signatures(), image1) != c.signed {
				t.Errorf("there is a delta from it: %v; its file: %v; signatures of %v", found, p.there(image1), p.signatures())
			}
			if s := p.build(); s.Changed {
				t.Errorf("another run changes something: %+v", s)
			}
			p.Policy.KeepSignatures, p.Policy.Grace = false, 0
			if p.build(); len(p.signatures()) > 0 || p.there(image1) {
				t.Errorf("left: the signatures of %v", p.signatures())
			}
		})
	}
}

// To sign an image that is too old to be a base now is a change too, though nothing else
// is.
func TestSignedAlone(t *testing.T) {
	p := newPlace(t, image1, image2, image3)
	p.Policy.Bases, p.Policy.Targets, p.Policy.Downgrades, p.Policy.Grace = 1, 1, false, time.Hour
	p.build()
	p.remove(image1)
	p.build()
	p.Policy.KeepSignatures = true
	for _, changed := range []bool{true, false} {
		if s := p.build(); s.Changed != changed || !slices.Equal(p.signatures(), []string{image1}) {
			t.Errorf("%+v, signatures of %v", s, p.signatures())
		}
	}
}

// What is signed is signed before a delta is made of it, and before anything is removed.
func TestOrderOfSigning(t *testing.T) {
	p := newPlace(t, image1, image2, image3)
	p.build()
	p.remove(image1)
	p.add(image4)
	p.Policy.KeepSignatures = true
	sig := mirror.SignaturePath(name(image1))
	tmp := mirror.TmpPath(path.Base(sig))
	var got []string
	made := false
	stop := atomicfile.Observe(p.MirrorDir, func(c atomicfile.Change) error {
		isDelta := c.Kind == atomicfile.Create && path.Ext(c.Name) == ".rdiff"
		switch {
		case isDelta && !made:
			made = true
			got = append(got, "a delta is made")
		case c.Kind != atomicfile.Write && (c.Name == tmp || c.Name == path.Dir(sig)), c.Kind == atomicfile.Remove && c.Name == image1:
			got = append(got, c.String())
		}
		return nil
	})
	defer stop()
	p.build()
	want := []string{
		"flush dir " + path.Dir(sig), // image4 is new: it has no signature
		"create " + tmp, "flush " + tmp, "rename " + tmp + " to " + sig, "flush dir " + path.Dir(sig),
		"a delta is made", "remove " + image1,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A run that is cancelled while an image is signed leaves the mirror as it was, and the
// next one signs.
func TestSigningCancelled(t *testing.T) {
	for _, at := range []func(c atomicfile.Change) bool{
		func(c atomicfile.Change) bool {
			return c.Kind == atomicfile.Write && c.Name == mirror.TmpPath(image1+".sig")
		},
		func(c atomicfile.Change) bool { return c.To == mirror.SignaturePath(name(image1)) },
	} {
		p := newPlace(t, image1, image2, image3, image4)
		p.build()
		p.remove(image1)
		p.Policy.KeepSignatures = true
		before := p.tree()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stop := atomicfile.Observe(p.MirrorDir, func(c atomicfile.Change) error {
			if at(c) {
				cancel()
			}
			return nil
		})
		_, _, err := Build(ctx, p.Options)
		if stop(); !errors.Is(err, context.Canceled) || p.tree() != before {
			t.Errorf("%v; the mirror is\n%swas\n%s", err, p.tree(), before)
		}
		if left := testGlob(t, filepath.Join(p.MirrorDir, mirror.TmpPath("*"))); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		if s := p.build(); s.Kept != 9 || !slices.Contains(p.signatures(), image1) {
			t.Errorf("%+v, signatures of %v", s, p.signatures())
		}
	}
}

// An image whose file in the mirror is not what was published is no base: there is one
// warning, the deltas from it are left out, and all else is done. With the file goes all
// that is known of it.
func TestLeavesDamaged(t *testing.T) {
	for _, grace := range []time.Duration{0, time.Hour} {
		p := newPlace(t, image1, image2, image3, image4)
		p.build()
		p.remove(image1)
		damage(t, filepath.Join(p.MirrorDir, image1))
		p.Policy.KeepSignatures, p.Policy.Grace = true, grace
		s := p.build()
		if s.Omitted != 3 || s.Kept != 6 || len(p.signatures()) > 0 || p.there(image1) != (grace > 0) {
			t.Errorf("%+v, signatures of %v", s, p.signatures())
		}
		if record := ".repo/state/" + image1 + ".json"; p.there(record) != (grace > 0) {
			t.Errorf("grace %v: its record is there: %v", grace, p.there(record))
		}
		if log := p.log.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, "cannot sign") || !strings.Contains(log, image1) {
			t.Errorf("warnings: %s", log)
		}
		im, _ := p.published(image4)
		if _, found := im.Diff(name(image1)); found {
			t.Error("a delta from it is published")
		}
		p.Policy.Grace = 0
		p.build()
		p.build()
		if s := p.build(); s.Changed || p.there(".repo/state/"+image1+".json") || len(testGlob(t, filepath.Join(p.MirrorDir, "*", "*2021-04-13-192449*"))) > 0 {
			t.Errorf("it is not forgotten: %+v", s)
		}
	}
}

// comesBack returns a place in which an image left and was signed, and comes back with
// another content of its size; and that content.
func comesBack(t *testing.T) (p *place, other []byte) {
	t.Helper()
	p = newPlace(t, image1, image2, image3)
	p.Policy.KeepSignatures = true
	p.build()
	p.remove(image1)
	p.build()
	if got := p.signatures(); !slices.Equal(got, []string{image1}) {
		t.Fatalf("signatures of %v", got)
	}
	other = p.read(image1)
	other[len(other)/2]++
	p.write(image1, other)
	return p, other
}

// An image that comes back with another content, and leaves again, is never diffed from by
// the signature of the first: whenever the power is cut meanwhile, a signature is of the
// content whose sums the record has.
func TestComesBackOther(t *testing.T) {
	p, other := comesBack(t)
	signatures := map[cksum.Digest256][]byte{
		sumsOf(p.read(image1)).BLAKE3: signatureOf(t, p.read(image1)), sumsOf(other).BLAKE3: signatureOf(t, other),
	}
	bound := func(when string, tree powercut.Tree) {
		sig, content := tree[mirror.SignaturePath(name(image1))], tree[mirror.StateDir+"/"+image1+".json"]
		if sig == nil || content == nil {
			return
		}
		var record struct{ Sums cksum.Sums }
		if err := json.Unmarshal(content.Data, &record); err != nil {
			t.Error(err)
		}
		if !bytes.Equal(sig.Data, signatures[record.Sums.BLAKE3]) && !t.Failed() {
			t.Errorf("%s: the signature is of another content than the record", when)
		}
	}
	disk := powercut.Watch(t, p.MirrorDir, func(next atomicfile.Change, trees func() []powercut.Tree) error {
		for _, tree := range trees() {
			bound("before "+next.String(), tree)
		}
		return nil
	})
	p.build()
	if got := p.signatures(); len(got) > 0 {
		t.Errorf("signatures of %v", got)
	}
	p.remove(image1)
	p.add(image4)
	p.build()
	disk.Stop()
	p.leadsFrom(image1, image4, other)
}

// A run that ends anywhere between leaves no signature either that the next would take for
// one of the other content.
func TestComesBackAndEnds(t *testing.T) {
	for at := 0; ; at++ {
		p, other := comesBack(t)
		changes, failure := 0, errors.New("it ends here")
		stop := atomicfile.Observe(p.MirrorDir, func(c atomicfile.Change) error {
			if strings.Contains(c.Name, image1) || c.Name == path.Dir(mirror.SignaturePath(name(image1))) {
				changes++
			}
			if changes > at {
				return failure
			}
			return nil
		})
		_, _, err := Build(t.Context(), p.Options)
		if stop(); err == nil {
			break
		}
		if !errors.Is(err, failure) {
			t.Errorf("change %d: %v", at, err)
		}
		p.remove(image1)
		p.add(image4)
		p.AllowRemoval = true // it may be there and not listed yet
		p.build()
		im, _ := p.published(image4)
		if _, found := im.Diff(name(image1)); !found {
			continue // its file was not what its record says
		}
		of := p.read(image1)
		if p.recorded(image1) == sumsOf(other) {
			of = other
		}
		p.leadsFrom(image1, image4, of)
	}
}

// recorded returns the sums that the record of a file has.
func (p *place) recorded(file string) cksum.Sums {
	p.t.Helper()
	view, err := mirror.View(p.MirrorDir)
	if err != nil {
		p.t.Fatal(err)
	}
	defer view.Close()
	records, _, err := view.State.Load()
	if err != nil || records[file] == nil {
		p.t.Fatalf("no record of %s: %v", file, err)
	}
	return records[file].Sums
}

// leadsFrom checks that the delta from an image that had this content makes the target.
func (p *place) leadsFrom(base, target string, content []byte) {
	p.t.Helper()
	rdiff, err := os.ReadFile(filepath.Join(p.MirrorDir, meta.DeltaPath(meta.DeltaName(name(base), name(target)))))
	if err != nil {
		p.t.Fatal(err)
	}
	var got bytes.Buffer
	want := p.read(target)
	err = delta.Patch(p.t.Context(), &got, bytes.NewReader(content), bytes.NewReader(rdiff), int64(len(want)))
	if err != nil || !bytes.Equal(got.Bytes(), want) {
		p.t.Errorf("the delta from %s makes another image, %v", base, err)
	}
}
