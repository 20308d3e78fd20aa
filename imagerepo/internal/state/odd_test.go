package state

import (
	"os"
	"path/filepath"
	"testing"

	"puavo-image-repository/testdata"
)

// What is no record, or far too large for one, is damaged. It is neither waited at nor
// read, and can be written again.
func TestOddRecord(t *testing.T) {
	for _, kind := range append(testdata.OddFiles(t), testdata.Odd{Name: "2 GiB", Make: testdata.Sparse}) {
		d, root := open(t)
		t.Chdir(filepath.Join(root.Name(), ".repo/state")) // the path of a socket is short
		if err := kind.Make("x.json"); err != nil {
			t.Fatal(err)
		}
		testdata.Promptly(t, kind.Name, func() {
			var records map[string]*Record
			var damaged []string
			var err error
			if used := testdata.Allocated(func() { records, damaged, err = d.Load() }); used > 1<<20 {
				t.Errorf("%s: it takes %d bytes of memory", kind.Name, used)
			}
			if err != nil || len(records) != 0 || len(damaged) != 1 || damaged[0] != "x" {
				t.Errorf("%s: %v, %v, %v", kind.Name, records, damaged, err)
			}
			if kind.Name == "a directory" {
				return
			}
			if err := d.Put("x", &full); err != nil {
				t.Errorf("%s: %v", kind.Name, err)
			}
			if info, err := os.Lstat("x.json"); err != nil || !info.Mode().IsRegular() {
				t.Errorf("%s: left is %v, %v", kind.Name, info, err)
			}
		})
	}
}

// A directory of records that is none is an error, at once.
func TestOddState(t *testing.T) {
	d, root := open(t)
	dir := filepath.Join(root.Name(), ".repo/state")
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	kind := testdata.OddFile(t, "a pipe")
	if err := kind.Make(dir); err != nil {
		t.Fatal(err)
	}
	testdata.Promptly(t, kind.Name, func() {
		if _, _, err := d.Load(); err == nil {
			t.Errorf("%s: no error", kind.Name)
		}
	})
}
