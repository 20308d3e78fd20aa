package diskspace

import (
	"os"
	"path/filepath"
	"testing"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/testdata"
)

func TestFreeAndUsed(t *testing.T) {
	const unit = 4096
	path := testdata.SmallDisk(t, 64*unit)
	dir, err := atomicfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	before, err := Free(dir)
	if err != nil || before <= 32*unit || before > 64*unit {
		t.Errorf("room for %d bytes, %v", before, err)
	}
	for file, size := range map[string]int{"data": 3 * unit, "hole": 0} {
		if err := os.WriteFile(filepath.Join(path, file), make([]byte, size), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(filepath.Join(path, "hole"), 32*unit); err != nil {
		t.Fatal(err)
	}
	if after, err := Free(dir); after != before-3*unit || err != nil {
		t.Errorf("room for %d bytes, then for %d, %v", before, after, err)
	}
	for file, want := range map[string]int64{"data": 3 * unit, "hole": 0, "none": 0, "../x": 0} {
		if got := Used(dir, file); got != want {
			t.Errorf("%s takes %d bytes, want %d", file, got, want)
		}
	}
	dir.Close()
	if _, err := Free(dir); err == nil {
		t.Error("a closed directory has room")
	}
}

func TestExisting(t *testing.T) {
	top := t.TempDir()
	os.Symlink("none", filepath.Join(top, "dangling"))
	for dir, want := range map[string]string{
		top: top, filepath.Join(top, "a"): top, filepath.Join(top, "a", "b", "c"): top, filepath.Join(top, "dangling", "a"): top, "/": "/", "none": ".", "": ".",
	} {
		if got := Existing(dir); got != want {
			t.Errorf("%q: %q, want %q", dir, got, want)
		}
	}
}
