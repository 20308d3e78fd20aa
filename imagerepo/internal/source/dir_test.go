package source

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"puavo-image-repository/imagerepo/internal/state"
	"puavo-image-repository/imagerepo/plan"
	"puavo-image-repository/meta"
)

// write makes a directory with files that have their names as content.
func write(t *testing.T, list ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range list {
		if err := os.WriteFile(filepath.Join(dir, f), []byte(f), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestOpen(t *testing.T) {
	elsewhere := write(t, "secret", "open")
	dir := write(t, image1)
	for link, target := range map[string]string{image2: "secret", image3: "open", image4: "gone"} {
		if err := os.Symlink(filepath.Join(elsewhere, target), filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(elsewhere, "secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for _, follow := range []bool{false, true} {
		d, err := Open(".", follow)
		if err != nil || d.Path != dir {
			t.Fatalf("%+v, %v", d, err)
		}
		if _, usable := d.Images[name(image2)]; usable != follow || (d.Unusable[name(image2)] == nil) != follow {
			t.Errorf("follow %v: a link to a private file: %+v", follow, d.Found)
		}
		if _, usable := d.Images[name(image3)]; !usable {
			t.Errorf("a link to a public file: %+v", d.Found)
		}
		if !errors.Is(d.Unusable[name(image4)], ErrUnseen) {
			t.Errorf("a link to nothing: %+v", d.Found)
		}
	}
	if d, err := Open(filepath.Join(dir, "gone"), false); !errors.Is(err, fs.ErrNotExist) || d == nil {
		t.Errorf("no directory: %v", err)
	}
	if _, err := Open(elsewhere, false); !errors.Is(err, plan.ErrInput) {
		t.Errorf("no images: %v", err)
	}
}

// An image that was written, replaced or removed since it was found has changed.
func TestUnchanged(t *testing.T) {
	for what, change := range map[string]func(path string) error{
		"nothing": nil,
		"removed": os.Remove,
		"written": func(path string) error { return os.WriteFile(path, []byte("another content of it"), 0o666) },
		"touched": func(path string) error { return os.Chtimes(path, time.Time{}, time.Now().Add(time.Hour)) },
		"replaced": func(path string) error {
			return errors.Join(os.WriteFile(path+"2", []byte(image1), 0o666), os.Rename(path+"2", path))
		},
	} {
		dir := write(t, image1)
		d, err := Open(dir, false)
		if err != nil {
			t.Fatal(err)
		}
		if change != nil {
			if err := change(d.File(name(image1))); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.Unchanged(name(image1)); (err != nil) != (change != nil) || err != nil && !errors.Is(err, ErrChanged) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A change of names alone leaves an image what it was, with a new stamp. One that was
// changed before stays changed.
func TestRenaming(t *testing.T) {
	dir := write(t, image1, image2, image3)
	if err := os.Link(filepath.Join(dir, image1), filepath.Join(dir, image4)); err != nil {
		t.Fatal(err)
	}
	d, err := Open(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(d.File(name(image3)), time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	failed := errors.New("failed")
	for n, change := range map[meta.Name]struct {
		err     error
		renamed int
	}{name(image1): {nil, 2}, name(image2): {failed, 1}, name(image3): {nil, 0}} {
		before, calls := d.Stamp(n), 0
		err := d.Renaming(func() error {
			return errors.Join(os.Link(d.File(n), filepath.Join(dir, "link"+n.Version)), change.err)
		}, func(_ meta.Name, was, now state.Stamp) error {
			if _, ok := was.Renamed(now); !ok || was == now || was != before {
				t.Errorf("%s: from %+v to %+v", n, was, now)
			}
			calls++
			return nil
		}, before.Inode)
		if !errors.Is(err, change.err) || calls != change.renamed {
			t.Errorf("%s: %d images renamed, %v", n, calls, err)
		}
		if err := d.Unchanged(n); (err == nil) != (change.renamed > 0) {
			t.Errorf("%s: %v", n, err)
		}
	}
}
