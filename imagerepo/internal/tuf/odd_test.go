package tuf

import (
	"os"
	"testing"

	"puavo-image-repository/testdata"
)

// What is no file in the memory of a client, or far too large, counts for nothing. It is
// neither waited at nor read, and replaced.
func TestOddMemory(t *testing.T) {
	r := newRepo(t)
	few := []testdata.Odd{testdata.OddFile(t, "a pipe"), {Name: "2 GiB", Make: testdata.Sparse}}
	for name, kinds := range map[string][]testdata.Odd{
		"pinned": few, "root.json": append(testdata.OddFiles(t), few...), "snapshot.json": few, "targets.json": few, "timestamp.json": few,
	} {
		for _, kind := range kinds {
			if kind.Name == "a directory" { // which no file can replace
				continue
			}
			u := newUser(t, r.files["1.root.json"])
			if _, err := u.index(r.files); err != nil {
				t.Fatal(err)
			}
			want := u.state()
			t.Chdir(u.path) // the path of a socket is short
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
			if err := kind.Make(name); err != nil {
				t.Fatal(err)
			}
			what := name + " is " + kind.Name
			testdata.Promptly(t, what, func() {
				var got string
				var err error
				if used := testdata.Allocated(func() { got, err = u.index(r.files) }); used > 16<<20 {
					t.Errorf("%s: it takes %d bytes of memory", what, used)
				}
				if err != nil || got != "an index" || u.state()[name] != want[name] {
					t.Errorf("%s: %q, %v, left is %q", what, got, err, u.state()[name])
				}
			})
		}
	}
}
