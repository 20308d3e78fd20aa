package published

import (
	"os"
	"path/filepath"
	"testing"

	"puavo-image-repository/meta"
	"puavo-image-repository/testdata"
)

// What has the name of a document and is none, or is far too large, names nothing. It is
// neither waited at nor read, and a document takes its place.
func TestOddDocument(t *testing.T) {
	few := []testdata.Odd{testdata.OddFile(t, "a pipe"), {Name: "2 GiB", Make: testdata.Sparse}}
	for doc, kinds := range map[string][]testdata.Odd{"index.json": few, "CKSUMS": append(testdata.OddFiles(t), few...), "SHA256SUMS": few, "meta/a.json": few} {
		for _, kind := range kinds {
			dir, _ := mirrorOf(t)
			want := words(t, dir)
			t.Chdir(filepath.Join(dir.Name(), filepath.Dir(doc))) // the path of a socket is short
			name := filepath.Base(doc)
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
			if err := kind.Make(name); err != nil {
				t.Fatal(err)
			}
			what := doc + " is " + kind.Name
			testdata.Promptly(t, what, func() {
				var d *Documents
				dir.NoSync = true
				if used := testdata.Allocated(func() { d = load(t, dir) }); used > 1<<20 {
					t.Errorf("%s: it takes %d bytes of memory", what, used)
				}
				d.Publish([]meta.Series{threeImages("a"), twoImages("b")}, nil, torrents)
				changed, err := d.Write(t.Context())
				if kind.Name == "a directory" { // which no file can replace
					if err == nil {
						t.Errorf("%s: no error", what)
					}
					return
				}
				if err != nil || !changed || words(t, dir) != want {
					t.Errorf("%s: changed %v, %v, the documents name\n%s\nwant\n%s", what, changed, err, words(t, dir), want)
				}
			})
		}
	}
}

// A folder of documents that is none is an error, at once.
func TestOddFolder(t *testing.T) {
	kind := testdata.OddFile(t, "a pipe")
	dir, _ := mirrorOf(t)
	folder := filepath.Join(dir.Name(), "meta")
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	if err := kind.Make(folder); err != nil {
		t.Fatal(err)
	}
	testdata.Promptly(t, kind.Name, func() {
		if _, err := Load(dir, func(string) bool { return true }); err == nil {
			t.Errorf("%s: no error", kind.Name)
		}
	})
}
