package outfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// A new file is whole, in directories that are made, and replaces nothing.
func TestWriteNew(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		name, path string
		err        error
	}{
		{"in a directory", filepath.Join(dir, "a"), nil},
		{"in new directories", filepath.Join(dir, "x/y/a"), nil},
		{"a name that is taken", filepath.Join(dir, "a"), fs.ErrExist},
		{"a link that leads nowhere", filepath.Join(dir, "link"), fs.ErrExist},
		{"below a file", filepath.Join(dir, "a/b"), errNotDir},
	} {
		if c.name == "a link that leads nowhere" {
			if err := os.Symlink("nowhere", c.path); err != nil {
				t.Fatal(err)
			}
		}
		err := WriteNew(c.path, 0o600, []byte(c.name))
		if (err != nil) != (c.err != nil) || c.err != errNotDir && !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
		}
		if err != nil {
			continue
		}
		info, statErr := os.Stat(c.path)
		data, err := os.ReadFile(c.path)
		if err := errors.Join(statErr, err); err != nil || string(data) != c.name || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %q, %v, %v", c.name, data, info, err)
		}
	}
	if data, err := os.ReadFile(filepath.Join(dir, "a")); err != nil || string(data) != "in a directory" {
		t.Errorf("the file is now %q, %v", data, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 { // a, link and x
		t.Errorf("left are %v, %v", entries, err)
	}
}

var errNotDir = errors.New("not a directory")
