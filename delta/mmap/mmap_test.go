package mmap

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"puavo-image-repository/testdata"
)

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	for _, size := range []int{0, 1, 4096, 100_000} {
		path := filepath.Join(dir, "file")
		want := bytes.Repeat([]byte("x"), size)
		if err := os.WriteFile(path, want, 0o666); err != nil {
			t.Fatal(err)
		}
		data, unmap, err := Open(path)
		if err != nil || !bytes.Equal(data, want) {
			t.Fatalf("%d bytes: got %d, %v", size, len(data), err)
		}
		if Forget(data, size); !bytes.Equal(data, want) {
			t.Errorf("%d bytes: forgotten ones are others", size)
		}
		if err := unmap(); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := Open(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// What is no regular file is not mapped, and not waited at.
func TestOddFiles(t *testing.T) {
	t.Chdir(t.TempDir()) // the path of a socket is short
	for _, kind := range testdata.OddFiles(t) {
		if err := kind.Make("odd"); err != nil {
			t.Fatal(err)
		}
		testdata.Promptly(t, kind.Name, func() {
			if _, _, err := Open("odd"); err == nil {
				t.Errorf("%s is mapped", kind.Name)
			}
		})
		if err := os.Remove("odd"); err != nil {
			t.Fatal(err)
		}
	}
}
