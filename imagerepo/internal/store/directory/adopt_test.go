package directory

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"puavo-image-repository/imagerepo/internal/store"
)

// A file that was adopted is released under its name, and gone from where it was.
func TestAdopt(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	from := filepath.Join(dir, "from")
	if err := os.WriteFile(from, []byte("text"), 0o666); err != nil {
		t.Fatal(err)
	}
	c := store.Content{Name: "rdiffs/to", Size: 4, SHA256: sha256.Sum256([]byte("text"))}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Adopt(ended, c, "from"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := s.Adopt(t.Context(), c, "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is missing: %v", err)
	}
	if err := errors.Join(s.Adopt(t.Context(), c, "from"), s.Release(t.Context(), c)); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, c.Name)); string(data) != "text" {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := os.Stat(from); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is where it was: %v", err)
	}
}

// What does not exist has no files, and is not made.
func TestMissing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	s := Missing(dir)
	files, err := s.List(t.Context())
	_, missing := s.Open(t.Context(), "a")
	if len(files) > 0 || err != nil || !errors.Is(missing, fs.ErrNotExist) || s.String() != dir || s.Requests(1) != 0 || s.Close() != nil {
		t.Errorf("%v, %v, %v", files, err, missing)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was made: %v", err)
	}
}
