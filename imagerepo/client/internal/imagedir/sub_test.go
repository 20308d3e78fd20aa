package imagedir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

var errAny = errors.New("any error")

// A directory within is made where the lock is held, and no link leads out of it.
func TestSub(t *testing.T) {
	outside := t.TempDir()
	for _, c := range []struct {
		name   string
		make   func(path string) error
		locked bool
		there  bool
		err    error
	}{
		{"missing", nil, false, false, nil},
		{"missing, locked", nil, true, true, nil},
		{"there", func(p string) error { return os.Mkdir(p, 0o777) }, false, true, nil},
		{"there, locked", func(p string) error { return os.Mkdir(p, 0o777) }, true, true, nil},
		{"a file", func(p string) error { return os.WriteFile(p, nil, 0o666) }, true, false, errAny},
		{"a link out of it", func(p string) error { return os.Symlink(outside, p) }, true, false, errAny},
	} {
		path := t.TempDir()
		if c.make != nil {
			if err := c.make(filepath.Join(path, "sub")); err != nil {
				t.Fatal(err)
			}
		}
		d, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if c.locked {
			if err := d.Lock(); err != nil {
				t.Fatal(err)
			}
		}
		if d.Locked() != c.locked {
			t.Errorf("%s: locked is %v", c.name, d.Locked())
		}
		sub, err := d.Sub("sub")
		fails := c.err != nil
		if (err != nil) != fails || !sub.IsZero() != c.there {
			t.Errorf("%s: %v, %v", c.name, sub.Name(), err)
		}
		if _, err := os.Lstat(filepath.Join(path, "sub")); (err == nil) != (c.there || c.make != nil) || err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", c.name, err)
		}
		if !sub.IsZero() {
			sub.Close()
		}
		d.Close()
	}
}
