package mirror

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// The directory of a pull is not opened to be changed, and nothing is made there.
func TestPulled(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, Pulled), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, true, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrPulled) {
		t.Errorf("%v, want ErrPulled", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, Private)); err == nil {
		t.Error("it was made a mirror")
	}
	if m, err := View(dir); err != nil {
		t.Error(err)
	} else {
		m.Close()
	}
}
