package assemble

import (
	"os"
	"testing"

	"puavo-image-repository/testdata"
)

// What has the name of a journal and is none, or is far too large, says nothing: the
// image is made from its beginning. It is neither waited at nor read.
func TestOddJournal(t *testing.T) {
	target := random(1, 1<<20)
	for _, kind := range append(testdata.OddFiles(t), testdata.Odd{Name: "2 GiB", Make: testdata.Sparse}) {
		for _, suffix := range []string{JournalSuffix, NextJournalSuffix} {
			p := newPlace(t, nil)
			p.write(PartialName(image), target[:100])
			t.Chdir(p.path) // the path of a socket is short
			if err := kind.Make(image.String() + suffix); err != nil {
				t.Fatal(err)
			}
			what := suffix + " is " + kind.Name
			_, url := newSite(t, target)
			testdata.Promptly(t, what, func() {
				if used := testdata.Allocated(func() {
					if begun := Look(p.dir, image); len(begun.points()) > 0 {
						t.Errorf("%s: it says %+v", what, begun)
					}
				}); used > 1<<20 {
					t.Errorf("%s: it takes %d bytes of memory", what, used)
				}
				if err := p.make(t.Context(), url, target, target, false); err != nil || string(p.made()) != string(target) {
					t.Errorf("%s: %v", what, err)
				}
			})
			os.Remove(image.String() + suffix)
		}
	}
}
