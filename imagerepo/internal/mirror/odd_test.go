package mirror

import (
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"puavo-image-repository/testdata"
)

// What has the name of the note of a run and is none says nothing, and is written over.
func TestOddRun(t *testing.T) {
	for _, kind := range append(testdata.OddFiles(t), testdata.Odd{Name: "2 GiB", Make: testdata.Sparse}) {
		dir := filepath.Join(t.TempDir(), "mirror")
		m, err := Open(dir, true, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		t.Chdir(filepath.Join(dir, Private)) // the path of a socket is short
		if err := kind.Make("run.json"); err != nil {
			t.Fatal(err)
		}
		testdata.Promptly(t, kind.Name, func() {
			var r Run
			if used := testdata.Allocated(func() { r = m.LastRun() }); !reflect.DeepEqual(r, Run{}) || used > 1<<20 {
				t.Errorf("%s: %+v, and it takes %d bytes of memory", kind.Name, r, used)
			}
			if kind.Name == "a directory" {
				return
			}
			if err := m.PutRun(Run{Seconds: 2}); err != nil || m.LastRun().Seconds != 2 {
				t.Errorf("%s: %v, %+v", kind.Name, err, m.LastRun())
			}
			if info, err := os.Lstat("run.json"); err != nil || !info.Mode().IsRegular() {
				t.Errorf("%s: left is %v, %v", kind.Name, info, err)
			}
		})
	}
}
