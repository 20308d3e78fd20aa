package files

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestSame(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	a, b, c, d := write("a", "text"), write("b", "text"), write("c", "texts"), write("d", "test")
	if err := Same(a, b); err != nil {
		t.Error(err)
	}
	if err := errors.Join(Warm([]string{a, b}), Warm(nil)); err != nil {
		t.Error(err)
	}
	missing := filepath.Join(dir, "missing")
	for _, err := range []error{Warm([]string{a, missing}), Same(a, missing), Same(missing, a)} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a missing file: %v", err)
		}
	}
	for _, other := range []string{c, d} {
		if Same(a, other) == nil || Same(other, a) == nil {
			t.Errorf("%s is the same as %s", a, other)
		}
	}
}
