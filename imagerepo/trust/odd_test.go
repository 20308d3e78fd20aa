package trust

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/meta/untrusted"
	"puavo-image-repository/testdata"
)

// put puts another kind of file in the place of the one that matches.
func put(t *testing.T, kind testdata.Odd, pattern string) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) != 1 {
		t.Fatal(pattern, files, err)
	}
	t.Chdir(filepath.Dir(files[0])) // the path of a socket is short
	if err := errors.Join(os.RemoveAll(files[0]), kind.Make(filepath.Base(files[0]))); err != nil {
		t.Fatal(err)
	}
}

// What is no file among the signed metadata, or far too large, is neither waited at nor
// read, but found, and signed again. Not so a root, and a directory.
func TestOddMetadata(t *testing.T) {
	few := []testdata.Odd{testdata.OddFile(t, "a pipe"), {Name: "2 GiB", Make: testdata.Sparse}}
	for pattern, kinds := range map[string][]testdata.Odd{
		"tuf/timestamp.json": append(testdata.OddFiles(t), few...), "tuf/*.snapshot.json": few, "tuf/*.targets.json": few,
		"tuf/targets/*.index.json": few, "tuf/targets/meta/*.a.json": few, "tuf/1.root.json": few, "tuf": few,
	} {
		for _, kind := range kinds {
			p := newPlace(t)
			p.sign()
			put(t, kind, filepath.Join(p.mirror, pattern))
			what := pattern + " is " + kind.Name
			testdata.Promptly(t, what, func() {
				used := testdata.Allocated(func() {
					if faults, err := Verify(t.Context(), p.mirror); err != nil || len(faults) != 1 || faults[0].Stale {
						t.Errorf("%s: found %+v, %v", what, faults, err)
					}
					isCopy := filepath.Dir(pattern) != "tuf" && pattern != "tuf"
					if _, err := StatusOf(p.mirror, p.now); (err == nil) != isCopy {
						t.Errorf("%s: status: %v", what, err)
					}
				})
				if used > 32<<20 {
					t.Errorf("%s: it takes %d bytes of memory", what, used)
				}
				mends := pattern != "tuf/1.root.json" && pattern != "tuf" && kind.Name != "a directory"
				_, err := p.trySign(t.Context())
				if (err == nil) != mends {
					t.Errorf("%s: signing: %v", what, err)
				}
				if mends && p.newClient().verify() != nil {
					t.Errorf("%s: it does not verify after it was signed", what)
				}
			})
		}
	}
}

// What is no file in a directory of keys is an error, at once, and so is one that is far
// too large.
func TestOddKeys(t *testing.T) {
	large := testdata.Odd{Name: "2 GiB", Make: testdata.Sparse}
	for _, kind := range append(testdata.OddFiles(t), large) {
		for _, name := range []string{"1.root.json", nextName} {
			p := newPlace(t)
			if err := os.WriteFile(filepath.Join(p.Dir, nextName), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			put(t, kind, filepath.Join(p.Dir, name))
			what := name + " is " + kind.Name
			testdata.Promptly(t, what, func() {
				want := atomicfile.ErrNotRegular
				if kind.Name == large.Name {
					want = untrusted.ErrTooLarge
				}
				if _, err := Open(p.Options); !errors.Is(err, want) {
					t.Errorf("%s: %v, want %v", what, err, want)
				}
			})
		}
	}
}

// A pipe in the place of a directory is not waited at.
func TestOddDirectories(t *testing.T) {
	p := newPlace(t)
	p.sign()
	pipe := testdata.OddFile(t, "a pipe")
	keys := p.keys()
	put(t, pipe, p.Dir)
	put(t, pipe, p.mirror)
	testdata.Promptly(t, pipe.Name, func() {
		_, openErr := Open(p.Options)
		_, verifyErr := Verify(t.Context(), p.mirror)
		_, statusErr := StatusOf(p.mirror, p.now)
		for what, err := range map[string]error{
			"Open": openErr, "Verify": verifyErr, "StatusOf": statusErr, "Init": Init(p.Options), "Renew": keys.Renew(t.Context(), p.mirror, true),
		} {
			if err == nil {
				t.Errorf("%s: no error", what)
			}
		}
	})
}
