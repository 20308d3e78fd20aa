package grub

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"puavo-image-repository/imagerepo/atomicfile"
	"puavo-image-repository/imagerepo/internal/powercut"
	"puavo-image-repository/meta"
)

// IDs of images, oldest first.
const (
	imageA = "os-2021-01-01-000000-amd64"
	imageB = "os-2022-02-02-000000-amd64"
	imageC = "os-2023-03-03-000000-amd64"
)

// named returns the name of an image, the zero one for "".
func named(t *testing.T, id string) (n meta.Name) {
	t.Helper()
	if id == "" {
		return n
	}
	n, err := meta.ParseName(id + ".img")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func open(t *testing.T, dir string) atomicfile.Dir {
	t.Helper()
	d, err := atomicfile.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// fill makes empty files.
func fill(t *testing.T, dir string, files ...string) {
	t.Helper()
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// list returns what is in a directory.
func list(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

func TestSetLabels(t *testing.T) {
	foreign := []string{
		"a.default", "notes.backup", "default", ".default", "os-2021-01-01-000000.default", imageA + ".img", imageA + ".img.lock",
		imageA + ".default.old", imageA + ".Default",
	}
	for _, c := range []struct {
		name          string
		have          []string // labels
		deflt, backup string
		want          []string
	}{
		{"the first", nil, imageA, "", []string{imageA + ".default"}},
		{"the first, and a backup", nil, imageB, imageA, []string{imageA + ".backup", imageB + ".default"}},
		{"another", []string{imageA + ".backup", imageB + ".default"}, imageC, imageB, []string{imageB + ".backup", imageC + ".default"}},
		{"the backup", []string{imageA + ".backup", imageB + ".default"}, imageA, imageB, []string{imageA + ".default", imageB + ".backup"}},
		{"the same", []string{imageA + ".backup", imageB + ".default"}, imageB, imageA, []string{imageA + ".backup", imageB + ".default"}},
		{"no backup any more", []string{imageA + ".backup", imageB + ".default"}, imageB, "", []string{imageB + ".default"}},
		{"the default is the backup", nil, imageA, imageA, []string{imageA + ".backup", imageA + ".default"}},
		{"of another series", []string{"other-2021-01-01-000000-i386.default", imageC + ".backup"}, imageB, "", []string{imageB + ".default"}},
	} {
		dir := t.TempDir()
		fill(t, dir, append(foreign, c.have...)...)
		images := open(t, dir)
		for range 2 { // the second time nothing is left to do
			if err := SetLabels(images, named(t, c.deflt), named(t, c.backup)); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			want := t.TempDir()
			fill(t, want, append(foreign, c.want...)...)
			if got := list(t, dir); got != list(t, want) {
				t.Errorf("%s: left are %s, want %s", c.name, got, list(t, want))
			}
		}
	}
}

// What has the name of a label and is none is left as it is, and counts as one.
func TestNoLabels(t *testing.T) {
	const text = "someone's"
	dir := t.TempDir()
	for _, file := range []string{imageA + ".img.backup", imageA + ".backup", imageC + ".default"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	os.Mkdir(filepath.Join(dir, imageA+".default"), 0o777)
	os.Symlink("nowhere", filepath.Join(dir, imageB+".backup"))
	os.Symlink(imageC+".default", filepath.Join(dir, imageC+".backup"))
	syscall.Mkfifo(filepath.Join(dir, imageB+".default"), 0o600)
	before := list(t, dir)
	if err := SetLabels(open(t, dir), named(t, imageC), named(t, imageB)); err != nil {
		t.Error(err)
	}
	if got := list(t, dir); got != before {
		t.Errorf("left are %s, want %s", got, before)
	}
	if data, err := os.ReadFile(filepath.Join(dir, imageC+".default")); string(data) != text {
		t.Errorf("it holds %q, %v", data, err)
	}
}

// Whenever the power is cut, the default image of before or the new one is labelled; and
// what was done lasts.
func TestLabelsPowerCut(t *testing.T) {
	has := func(tree powercut.Tree, labels ...string) bool {
		for _, l := range labels {
			if tree[l] == nil {
				return false
			}
		}
		return true
	}
	for _, left := range [][]string{nil, {imageC + ".default"}, {imageC + ".default", imageB + ".backup"}} {
		dir := t.TempDir()
		fill(t, dir, imageA+".backup", imageB+".default", "notes.default")
		disk := powercut.Watch(t, dir, func(next atomicfile.Change, trees func() []powercut.Tree) error {
			for _, tree := range trees() {
				before, after := has(tree, imageA+".backup", imageB+".default"), has(tree, imageB+".backup", imageC+".default")
				if !before && !after || !has(tree, "notes.default") {
					t.Errorf("before %s: left are %v", next, tree)
				}
			}
			return nil
		})
		images := open(t, dir)
		for _, label := range left { // by a run that was killed, and not flushed
			f, err := images.Begin(label, "")
			if err != nil {
				t.Fatal(err)
			}
			f.Keep()
		}
		if err := SetLabels(images, named(t, imageC), named(t, imageB)); err != nil {
			t.Error(err)
		}
		disk.Stop()
		for _, tree := range disk.Trees() {
			if len(tree) != 3 || !has(tree, imageB+".backup", imageC+".default") {
				t.Errorf("it does not last: left are %v", tree)
			}
		}
	}
}

// Where a change fails, the error says so, no label is missing, and the next run
// completes it.
func TestLabelsFail(t *testing.T) {
	for n := range 6 {
		dir, changes := t.TempDir(), 0
		fill(t, dir, imageA+".backup", imageB+".default")
		stop := atomicfile.Observe(dir, func(atomicfile.Change) error {
			if changes++; changes == n+1 {
				return syscall.EIO
			}
			return nil
		})
		images := open(t, dir)
		err := SetLabels(images, named(t, imageC), named(t, imageB))
		stop()
		if !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), dir) {
			t.Errorf("change %d: %v", n, err)
		}
		if got := list(t, dir); n < 3 && !strings.Contains(got, imageB+".default") || n >= 2 && !strings.Contains(got, imageC+".default") {
			t.Errorf("change %d: left are %s", n, got)
		}
		if err := SetLabels(images, named(t, imageC), named(t, imageB)); err != nil || list(t, dir) != imageB+".backup "+imageC+".default" {
			t.Errorf("change %d: then %v, %s", n, err, list(t, dir))
		}
	}
}
